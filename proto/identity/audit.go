package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Audit is the trail of who decided what: a line for every audited call of a
// person with its outcome, for every call that was refused because of the
// caller's role, and for what a process does by itself in the place of a person.
// A line has names and codes, never the text of a request or an error: those may
// hold what is nobody else's business. A nil Audit notes nothing.
type Audit struct {
	node string
	log  *slog.Logger
	to   []io.Writer

	// mu guards the rest, and keeps lines whole.
	mu     sync.Mutex
	second time.Time // of the denials that are counted
	denied int
	missed int
}

// deniedPerSecond bounds the lines about refused calls, so that nobody can push
// what was done out of the trail by asking for what is not allowed.
const deniedPerSecond = 20

// auditNameBytesMax bounds a name in a line that comes from a request.
const auditNameBytesMax = nameBytesMax

// auditLine is one line, in JSON.
type auditLine struct {
	// Msg is always "audit", to tell the lines from others of a stream.
	Msg  string    `json:"msg"`
	Time time.Time `json:"time"`
	// Node is the process that was asked.
	Node string `json:"node"`
	// Method is the call's, or what a process did by itself.
	Method string `json:"method"`
	// Job and Target are what it was about: a job, a node or a pod.
	Job    string `json:"job,omitempty"`
	Target string `json:"target,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Role, Name and Cluster are those of the caller's certificate, Certificate
	// is its serial number.
	Role        Role   `json:"role,omitempty"`
	Name        string `json:"name,omitempty"`
	Cluster     string `json:"cluster,omitempty"`
	Certificate string `json:"certificate,omitempty"`
	From        string `json:"from,omitempty"`
	// Decision is allowed or denied, Outcome a code of gRPC; OK: it was done.
	Decision string  `json:"decision"`
	Outcome  string  `json:"outcome"`
	Seconds  float64 `json:"seconds"`
	// Missed counts the denied calls since the line before that have none of
	// their own, because there were too many in a second.
	Missed int `json:"missed,omitempty"`
}

// The decisions.
const (
	allowed = "allowed"
	denied  = "denied"
)

// NewAudit returns the trail of the process of a node, which goes to all of the
// writers. log is told when one cannot be written.
func NewAudit(node string, log *slog.Logger, to ...io.Writer) *Audit {
	return &Audit{node: node, log: log, to: to}
}

// caller is who makes a call.
type caller struct {
	Identity
	certificate *x509.Certificate
	from        string
}

func callerOf(state tls.ConnectionState, from string) (who caller, err error) {
	who.from = from
	if who.Identity, err = peerOf(state); err != nil {
		return who, err
	}
	who.certificate = state.PeerCertificates[0]
	return who, nil
}

// call notes a call that was answered, if it is one to note. refused: it was not
// let through to the server.
func (a *Audit) call(method string, who caller, began time.Time, request, reply any, refused bool, err error) {
	if a == nil || !refused && !(Rules[method].Audited && slices.Contains(people, who.Role)) {
		return
	}
	if piece, ok := request.(interface{ GetFrom() uint64 }); ok && !refused && piece.GetFrom() > 0 {
		return // of something read in many pieces the first is noted
	}
	l := auditLine{Method: clip(method), Role: who.Role, Name: who.Name, Cluster: who.Cluster, Certificate: serial(who.certificate), From: who.from,
		Decision: allowed, Outcome: status.Code(err).String(), Seconds: time.Since(began).Seconds(), Job: jobOf(request, reply)}
	if r, ok := request.(interface{ GetNode() string }); ok {
		l.Target = clip(r.GetNode())
	}
	if refused {
		l.Decision = denied
	}
	a.write(l)
}

// jobOf is the job that a call is about, as far as request or answer tell.
func jobOf(request, reply any) string {
	for _, m := range []any{request, reply} {
		if r, ok := m.(interface{ GetJob() string }); ok && r.GetJob() != "" {
			return clip(r.GetJob())
		}
	}
	r, ok := request.(interface{ GetSpec() []byte })
	if !ok {
		return ""
	}
	// A job that was not taken: only its name may be told.
	var spec struct {
		Metadata struct{ Name string }
	}
	if len(r.GetSpec()) > fileBytesMax || json.Unmarshal(r.GetSpec(), &spec) != nil {
		return ""
	}
	return clip(spec.Metadata.Name)
}

func clip(s string) string { return s[:min(len(s), auditNameBytesMax)] }

func (a *Audit) write(l auditLine) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if l.Decision == denied {
		if now.Sub(a.second) >= time.Second {
			a.second, a.denied = now, 0
		}
		if a.denied++; a.denied > deniedPerSecond {
			a.missed++
			return
		}
	}
	l.Msg, l.Time, l.Node, l.Missed = "audit", now.UTC(), a.node, a.missed
	a.missed = 0
	text, err := json.Marshal(l)
	if err != nil {
		a.log.Error("an audit line is lost", "error", err)
		return
	}
	for _, w := range a.to {
		if _, err := w.Write(append(text, '\n')); err != nil {
			a.log.Error("the audit trail cannot be written", "line", string(text), "error", err)
		}
	}
}

// SetAudit begins the trail of what the process is asked; it is called before
// servers are made of the Source. A nil Source has none.
func (s *Source) SetAudit(a *Audit) {
	if s != nil {
		s.audit = a
	}
}

// Acted notes in the trail what this process did by itself in the place of a
// person, to a job or a target of it.
func (s *Source) Acted(method, job, target, detail string, err error) {
	if s == nil || s.audit == nil {
		return
	}
	m := s.current()
	s.audit.write(auditLine{Method: method, Job: clip(job), Target: clip(target), Detail: detail,
		Role: m.identity.Role, Name: m.identity.Name, Cluster: m.identity.Cluster, Certificate: serial(m.cert.Leaf),
		Decision: allowed, Outcome: outcome(err)})
}

// outcome is the code of an error, also of one that ends a context.
func outcome(err error) string {
	if status.Code(err) == codes.Unknown {
		return status.FromContextError(err).Code().String()
	}
	return status.Code(err).String()
}

// serial is a certificate's number as openssl prints it.
func serial(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	return strings.ToUpper(hex.EncodeToString(c.SerialNumber.Bytes()))
}

// callerKey is of the caller in a call's context.
type callerKey struct{}

// Caller returns who makes the call that ctx is of; false where connections
// are not secured.
func Caller(ctx context.Context) (Identity, bool) {
	c, ok := ctx.Value(callerKey{}).(caller)
	return c.Identity, ok
}
