package ps

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/replica"
)

const (
	// hashesName is the file of the state hashes in a replica's folder;
	// hashesOldName the one before it.
	hashesName, hashesOldName = "hashes", "hashes.old"
	// hashesBytesMax is when a new file is begun: about a million versions.
	hashesBytesMax = 64 << 20
	// hashesBehind is how many versions may be in memory only.
	hashesBehind = 256
	// hashesReply bounds the versions of one reply.
	hashesReply = 1 << 16
	// hashPartsMax bounds the parts of a record that is read.
	hashPartsMax = 1 << 12
)

var hashSums = crc32.MakeTable(crc32.Castagnoli)

// hashLog keeps the state hashes of the versions that a replica has applied, for
// as long as its folder exists. It is for finding out where two runs part, not a
// part of the state: it is not synced, and a record that is torn is dropped.
//
// A record is: version u64, number of parts u32, CRC-32C of the other bytes u32,
// the parts.
type hashLog struct {
	dir string

	// mu guards what follows.
	mu   sync.Mutex
	file *os.File
	size int64
	next uint64 // version to be written next
}

// openHashes opens the log and finds where it ends.
func openHashes(dir string) (*hashLog, error) {
	l := &hashLog{dir: dir}
	f, err := os.OpenFile(filepath.Join(dir, hashesName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open state hashes: %w", err)
	}
	l.size = readHashes(f, func(v fsm.VersionHash) bool {
		l.next = v.Version + 1
		return true
	})
	if err := f.Truncate(l.size); err != nil {
		return nil, errors.Join(fmt.Errorf("open state hashes: %w", err), f.Close())
	}
	if _, err := f.Seek(l.size, io.SeekStart); err != nil {
		return nil, errors.Join(fmt.Errorf("open state hashes: %w", err), f.Close())
	}
	l.file = f
	return l, nil
}

// readHashes calls f for the records until it returns false or they end, and
// returns where the last sound one ends.
func readHashes(from io.Reader, f func(fsm.VersionHash) bool) (end int64) {
	r := bufio.NewReader(from)
	var h [16]byte
	for {
		if _, err := io.ReadFull(r, h[:]); err != nil {
			return end
		}
		n := binary.LittleEndian.Uint32(h[8:])
		if n > hashPartsMax {
			return end
		}
		body := make([]byte, 16*n)
		if _, err := io.ReadFull(r, body); err != nil {
			return end
		}
		if binary.LittleEndian.Uint32(h[12:]) != hashSum(h[:12], body) {
			return end
		}
		v := fsm.VersionHash{Version: binary.LittleEndian.Uint64(h[:])}
		for i := range int(n) {
			v.Parts = append(v.Parts, [16]byte(body[16*i:]))
		}
		if !f(v) {
			return end
		}
		end += int64(len(h) + len(body))
	}
}

func hashSum(head, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, hashSums), hashSums, body)
}

// drain writes the hashes the state machine has beyond what is written.
func (l *hashLog) drain(state *fsm.State) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var text []byte
	next := l.next
	for _, v := range state.Hashes(l.next, hashesReply) {
		at := len(text)
		text = binary.LittleEndian.AppendUint64(text, v.Version)
		text = binary.LittleEndian.AppendUint32(text, uint32(len(v.Parts)))
		text = append(text, 0, 0, 0, 0)
		for _, p := range v.Parts {
			text = append(text, p[:]...)
		}
		binary.LittleEndian.PutUint32(text[at+12:], hashSum(text[at:at+12], text[at+16:]))
		next = v.Version + 1
	}
	if len(text) == 0 {
		return nil
	}
	n, err := l.file.Write(text)
	l.size += int64(n)
	if err != nil {
		return fmt.Errorf("write state hashes: %w", err)
	}
	l.next = next
	if l.size > hashesBytesMax {
		return l.rotate()
	}
	return nil
}

// rotate begins a new file.
func (l *hashLog) rotate() error {
	path := filepath.Join(l.dir, hashesName)
	if err := os.Rename(path, filepath.Join(l.dir, hashesOldName)); err != nil {
		return fmt.Errorf("begin new state hashes: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("begin new state hashes: %w", err)
	}
	err = l.file.Close()
	l.file, l.size = f, 0
	return err
}

// read returns the hashes from a version on, those in memory included.
func (l *hashLog) read(state *fsm.State, first uint64, most int) ([]fsm.VersionHash, error) {
	if err := l.drain(state); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []fsm.VersionHash
	for _, name := range []string{hashesOldName, hashesName} {
		f, err := os.Open(filepath.Join(l.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read state hashes: %w", err)
		}
		readHashes(f, func(v fsm.VersionHash) bool {
			if v.Version >= first && len(found) < most {
				found = append(found, v)
			}
			return len(found) < most
		})
		f.Close() // read only
	}
	return found, nil
}

func (l *hashLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}

// keepHashes writes what there is once enough has come together; last says that
// nothing will follow. A failure is told once.
func (h *hosted) keepHashes(g *replica.Group, last bool) {
	l := h.hashes
	if l == nil {
		return
	}
	g.Inspect(func(state *fsm.State) {
		l.mu.Lock()
		next := l.next
		l.mu.Unlock()
		if version, configured := state.Version(); !configured || !last && version < next+hashesBehind {
			return
		}
		if err := l.drain(state); err != nil && !h.hashesFailed {
			h.hashesFailed = true
			h.server.cfg.Logger.Warn("state hashes are not kept", "group", h.name, "error", err)
		}
	})
}

// Hashes returns the state hashes of a range of versions, as far as this replica
// has them.
func (v *service) Hashes(_ context.Context, req *proto.HashesRequest) (*proto.HashesReply, error) {
	h, err := v.find(groupKey{req.GetRun(), req.GetShard()})
	if err != nil {
		return nil, v.server.statusOf(nil, err)
	}
	g, err := h.replica()
	if err != nil {
		return nil, v.server.statusOf(h, err)
	}
	reply := &proto.HashesReply{}
	err = nil
	g.Inspect(func(state *fsm.State) {
		schema, configured := state.Schema()
		if !configured || h.hashes == nil {
			return
		}
		reply.Parts = schema.PartNames()
		var found []fsm.VersionHash
		found, err = h.hashes.read(state, req.GetFirst(), int(min(req.GetMost(), hashesReply)))
		for _, f := range found {
			w := &proto.VersionHash{Version: f.Version}
			for _, p := range f.Parts {
				w.Parts = append(w.Parts, p[:])
			}
			reply.Versions = append(reply.Versions, w)
		}
	})
	if err != nil {
		return nil, v.server.statusOf(h, err)
	}
	return reply, nil
}
