package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fathom-train/fathom/proto/identity"
)

const (
	scrapeTimeout  = 5 * time.Second
	scrapeBytesMax = 16 << 20
)

// cpuSecondsMetric is the CPU time a process has used, as it exports it.
const cpuSecondsMetric = "process_cpu_seconds_total"

// exposition is what a process exported: values by series, the series written
// as on the wire, name{label="value"}.
type exposition map[string]float64

// scraped is the exposition of one process.
type scraped struct {
	process string // its name, like worker-0
	at      time.Time
	values  exposition
}

// role is the part of the process's name before its number.
func (s scraped) role() string {
	role, _, _ := strings.Cut(s.process, "-")
	return role
}

// scrape reads a process's metrics.
func scrape(ctx context.Context, self *identity.Source, address string) (_ exposition, err error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	client, scheme := self.HTTP()
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	reply, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("read metrics of %s: %s", address, reply.Status)
	}
	e, err := parseExposition(io.LimitReader(reply.Body, scrapeBytesMax))
	if err != nil {
		return nil, fmt.Errorf("read metrics of %s: %w", address, err)
	}
	return e, nil
}

// parseExposition reads the text format of Prometheus: "series value" lines and
// comments.
func parseExposition(r io.Reader) (exposition, error) {
	e := exposition{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		// A label's value may hold spaces, so the value is behind the brace.
		at := strings.LastIndexByte(line, '}') + 1
		if at == 0 {
			at = strings.IndexByte(line, ' ')
		}
		if at <= 0 {
			return nil, fmt.Errorf("%q is no metric", clip(line, 80))
		}
		rest := strings.Fields(line[at:]) // value and perhaps a time
		if len(rest) == 0 {
			return nil, fmt.Errorf("%q has no value", clip(line, 80))
		}
		v, err := strconv.ParseFloat(rest[0], 64)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", clip(line, 80), err)
		}
		e[line[:at]] = v
	}
	return e, lines.Err()
}

// split takes a series apart into its name and its labels in braces, if any.
func split(series string) (name, labels string) {
	if at := strings.IndexByte(series, '{'); at >= 0 {
		return series[:at], series[at:]
	}
	return series, ""
}
