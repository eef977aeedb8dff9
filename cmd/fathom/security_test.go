package main

import "testing"

// Plain text is spoken on the loopback only, and never because nothing was said.
func TestInsecureIsForTheLoopbackOnly(t *testing.T) {
	t.Setenv(credentialsEnv, "")
	etcd := []string{"coordinator", "--name", "c", "--etcd", "http://127.0.0.1:1"}
	ps := []string{"ps", "--name", "p", "--data-dir", t.TempDir(), "--coordinator", "127.0.0.1:1"}
	for address, args := range map[string][]string{
		":7070":               append(etcd, "--listen", ":7070"),
		"0.0.0.0:7070":        append(etcd, "--listen", "0.0.0.0:7070"),
		"10.0.0.1:7070":       append(etcd, "--listen", "10.0.0.1:7070"),
		"ps.example.net:7071": append(ps, "--listen", "127.0.0.1:0", "--advertise", "ps.example.net:7071"),
		"c.example.net:7070":  {"status", "--coordinator", "127.0.0.1:1,c.example.net:7070"},
		"[2001:db8::1]:2379":  {"etcd", "--name", "e", "--data-dir", t.TempDir(), "--client-url", "http://[2001:db8::1]:2379"},
	} {
		code, _, errs := command(t, &fakeControl{}, append(args, "--insecure")...)
		want(t, code, exitInput, errs, "--insecure is for loopback addresses only, ", address)
	}
	for _, args := range [][]string{etcd, ps, {"worker", "--name", "w", "--coordinator", "127.0.0.1:1"}, {"status", "--coordinator", "127.0.0.1:1"}} {
		code, _, errs := command(t, &fakeControl{}, args...)
		want(t, code, exitInput, errs, "no credentials: give --credentials DIR")
	}
	for _, address := range []string{"", "127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "http://127.0.0.1:2379"} {
		if !loopback(address) {
			t.Errorf("%q is not of the loopback", address)
		}
	}
}
