package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// podEnv holds the podView of a process of this test that is to become a pod's.
const podEnv = "FATHOM_E2E_POD"

// podView is what the container of a pod sees of the machine.
type podView struct {
	// Dir is an empty directory of the machine, on which its root is made.
	Dir string
	// Mounts are all files and directories of the root.
	Mounts []podMount
	// Args begin with the program.
	Args, Env []string
	// User is also the group.
	User int
}

type podMount struct {
	From, To string // a path of the machine, one of the pod
	Writable bool
}

// command starts this test once more as the pod's process: number one of its
// own, with mounts of its own.
func (v podView) command() (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = []string{podEnv + "=" + string(text)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC}
	return cmd, nil
}

// becomePod makes the root of a pod and goes on as its program; it returns when
// that is not possible, and also when there is none.
func becomePod(text string) error {
	var v podView
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	if err := errors.Join(syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""),
		syscall.Mount("pod", v.Dir, "tmpfs", 0, "mode=755")); err != nil {
		return fmt.Errorf("a root for the pod: %w", err)
	}
	proc := filepath.Join(v.Dir, "proc")
	if err := errors.Join(os.Mkdir(proc, 0o555), syscall.Mount("proc", proc, "proc", syscall.MS_RDONLY, "")); err != nil {
		return fmt.Errorf("/proc for the pod: %w", err)
	}
	for _, m := range v.Mounts {
		if err := m.mount(v.Dir); err != nil {
			return fmt.Errorf("%s for the pod: %w", m.To, err)
		}
	}
	if err := errors.Join(syscall.Mount("", v.Dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""),
		syscall.Chroot(v.Dir), os.Chdir("/")); err != nil {
		return fmt.Errorf("enter the pod's root: %w", err)
	}
	if len(v.Args) == 0 {
		return nil
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(v.User), syscall.Setuid(v.User)); err != nil {
		return fmt.Errorf("become user %d: %w", v.User, err)
	}
	return fmt.Errorf("start %s: %w", v.Args[0], syscall.Exec(v.Args[0], v.Args, v.Env))
}

func (m podMount) mount(root string) error {
	at := filepath.Join(root, m.To)
	from, err := os.Stat(m.From)
	if err != nil {
		return err
	}
	if from.IsDir() {
		err = os.MkdirAll(at, 0o755)
	} else if err = os.MkdirAll(filepath.Dir(at), 0o755); err == nil {
		err = os.WriteFile(at, nil, 0o600)
	}
	if err != nil {
		return err
	}
	if err := syscall.Mount(m.From, at, "", syscall.MS_BIND, ""); err != nil || m.Writable {
		return err
	}
	return syscall.Mount("", at, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
}

// podRoots is nil when pods can have roots of their own on this machine.
var podRoots = sync.OnceValue(func() error {
	if os.Getuid() != 0 {
		return errors.New("only root can give them")
	}
	dir, err := os.MkdirTemp("", "fathom-root-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cmd, err := podView{Dir: dir}.command()
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
})
