package local

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/fathom-train/fathom/deploy/plan"
)

// fakeChild in the environment makes the test binary a child process, whose
// arguments say what it does.
const fakeChild = "FATHOM_LOCAL_TEST_CHILD=1"

func TestMain(m *testing.M) {
	if os.Getenv("FATHOM_LOCAL_TEST_CHILD") != "" {
		os.Exit(child(os.Args[1], os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// child is the whole life of a fake process.
func child(mode string, args []string) int {
	terminated, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch mode {
	case "serve": // NAME FILE ADDRESS: notes its end in FILE, holds connections to ADDRESS
		l, err := net.Listen("tcp", args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Fprintln(os.Stderr, args[0], "listens, env", os.Getenv("LOCAL_TEST_EXTRA"))
		fmt.Println("not ready yet")
		fmt.Println("ready address=" + l.Addr().String())
		go holdConnections(l)
		<-terminated.Done()
		appendLine(args[1], args[0])
		return 0
	case "stubborn": // does not end when asked to
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		select {}
	case "exit": // CODE
		fmt.Fprintln(os.Stderr, "this is the trouble")
		code, _ := strconv.Atoi(args[0])
		return code
	case "flaky": // FILE N: fails N times, then serves
		lines := strings.Count(read(args[0]), "\n")
		appendLine(args[0], "x")
		if n, _ := strconv.Atoi(args[1]); lines < n {
			return 7
		}
		fmt.Println("ready")
		<-terminated.Done()
		return 0
	case "silent":
		<-terminated.Done()
		return 0
	case "noisy": // BYTES
		n, _ := strconv.Atoi(args[0])
		w := bufio.NewWriter(os.Stdout)
		for range n / 100 {
			fmt.Fprintln(w, strings.Repeat("n", 99))
		}
		w.Flush()
		fmt.Println("ready")
		<-terminated.Done()
		return 0
	case "parent": // WORKDIR ADDRESS FILE: runs a cluster until it is killed
		one := plan.Process{Name: "ps-0", Role: plan.PS, Args: []string{"serve", "ps-0", args[2], args[1]}, Restart: true}
		if _, err := Start(terminated, plan.Plan{Processes: []plan.Process{one}}, Options{WorkDir: args[0]}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		fmt.Println("ready")
		select {}
	}
	return 99
}

// holdConnections accepts connections and never closes them.
func holdConnections(l net.Listener) {
	var open []net.Conn
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		open = append(open, c)
		_ = open
	}
}

func appendLine(file, line string) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err == nil {
		_, err = fmt.Fprintln(f, line)
		f.Close()
	}
	if err != nil {
		panic(err)
	}
}

func read(file string) string {
	b, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		panic(err)
	}
	return string(b)
}
