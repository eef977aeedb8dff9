package launchtest

import (
	"io"
	"net"
	"net/http"
	"strings"

	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Listen makes a port of a pod, such as quickstart-ps-0:7070, lead to an address.
func (s *Server) Listen(podPort, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ports[podPort] = address
}

// forward carries one connection to a pod, as a kubelet does.
func (s *Server) forward(w http.ResponseWriter, r *http.Request) {
	if _, err := httpstream.Handshake(r, w, []string{"portforward.k8s.io"}); err != nil {
		s.t.Errorf("port-forward: %v", err)
		return
	}
	streams := make(chan httpstream.Stream, 2) // one for errors, one for data
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(stream httpstream.Stream, _ <-chan struct{}) error {
		streams <- stream
		return nil
	})
	if conn == nil {
		return // it has answered
	}
	defer conn.Close()
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	var faults httpstream.Stream
	for {
		var stream httpstream.Stream
		select {
		case stream = <-streams:
		case <-conn.CloseChan():
			return
		}
		if stream.Headers().Get("streamType") == "error" {
			faults = stream
			continue
		}
		s.mu.Lock()
		address := s.ports[parts[len(parts)-2]+":"+stream.Headers().Get("port")]
		s.mu.Unlock()
		near, err := net.Dial("tcp", address)
		if err != nil {
			io.WriteString(faults, err.Error())
			return
		}
		defer near.Close()
		go func() { io.Copy(near, stream); near.(*net.TCPConn).CloseWrite() }()
		io.Copy(stream, near)
		return
	}
}
