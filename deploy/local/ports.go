package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/fathom-train/fathom/deploy/plan"
)

// Ports are taken from below the range that systems use for the near end of
// outgoing connections. A port from that range may be taken by any connection
// of any program while its process is down, and then the process cannot come
// back: others know it by this address.
const (
	portMin   = 10_000
	portMax   = 32_000
	portTries = 200
)

const host = "127.0.0.1"

// ports holds the numbers of the plan's ports. A port is kept by a listener
// until its process is started, so that no other program gets it meanwhile.
type ports struct {
	number map[plan.Port]int
	held   map[plan.Port]net.Listener
}

// allocate finds a free port for each, those of the file first: addresses that
// stay the same let a second run in the same directory find its peers.
func allocate(all []plan.Port, file string) (_ *ports, err error) {
	p := &ports{number: map[plan.Port]int{}, held: map[plan.Port]net.Listener{}}
	defer func() {
		if err != nil {
			p.release(all)
		}
	}()
	last, err := readPorts(file)
	if err != nil {
		return nil, err
	}
	for _, port := range all {
		l, err := hold(last[port.Process+"."+port.Name])
		if err != nil {
			return nil, fmt.Errorf("find a port for %s: %w", port, err)
		}
		p.held[port] = l
		p.number[port] = l.Addr().(*net.TCPAddr).Port
	}
	return p, p.write(file)
}

// hold listens on the wanted port if there is one and it is free, else on a
// free one.
func hold(wanted int) (net.Listener, error) {
	if wanted > 0 {
		if l, err := listen(wanted); err == nil {
			return l, nil
		}
	}
	for range portTries {
		if l, err := listen(portMin + rand.IntN(portMax-portMin)); err == nil {
			return l, nil
		}
	}
	return listen(0)
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}

func readPorts(file string) (map[string]int, error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the ports of the last run: %w", err)
	}
	var numbers map[string]int
	if err := json.Unmarshal(b, &numbers); err != nil {
		return nil, fmt.Errorf("read the ports of the last run: %s: %w; remove the file", file, err)
	}
	return numbers, nil
}

func (p *ports) write(file string) error {
	numbers := map[string]int{}
	for port, n := range p.number {
		numbers[port.Process+"."+port.Name] = n
	}
	b, err := json.MarshalIndent(numbers, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("deploy/local: BUG: encode ports: %v", err))
	}
	if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the ports: %w", err)
	}
	return nil
}

// release lets go of ports that are still held.
func (p *ports) release(these []plan.Port) {
	for _, port := range these {
		if l := p.held[port]; l != nil {
			l.Close() // nothing was accepted
			delete(p.held, port)
		}
	}
}

// address returns host:port.
func (p *ports) address(port plan.Port) string {
	return net.JoinHostPort(host, strconv.Itoa(p.number[port]))
}

func portsFile(workDir string) string { return filepath.Join(workDir, "ports.json") }
