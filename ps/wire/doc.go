// Package wire owns the bytes between workers, servers and the raft log: the
// payloads of pull and push, and the commands of a shard's state machine.
//
// All integers are little-endian, all sections start at a multiple of eight
// bytes from the start of their message, and every message begins with the
// same envelope:
//
//	 0        4        8        12    14      16
//	+--------+--------+--------+------+-------+----
//	| "FTHM" | crc32c | length | kind | format| body ...
//	+--------+--------+--------+------+-------+----
//
// length is that of the whole message, crc32c (Castagnoli) covers everything
// behind itself. A command keeps the checksum its worker computed through RPC,
// log, disk and snapshot.
//
//	push body:   run u64 | step u64 | phase u32 | lane u16 | chunk u16 |
//	             chunks u16 | 0 u16 | sections u32 |
//	             learning-rate factor f32 | 0 u32 | section ...
//	section:     kind u16 (1 rows, 2 dense) | table or tensor u16 | width u32 |
//	             count u32 | offset u32 | data
//	rows data:   count keys u64 | count counts u32, padded | count*width f32, padded
//	dense data:  count f32 (elements offset..offset+count), padded
//
//	pull request body: run u64 | version u64 | shard u32 | tables u16 | dense u16 |
//	             per table: table u16, 0 u16, count u32, count keys u64 |
//	             tensor ids u16, padded
//	pull reply body:   version u64 | floats u32 | crc32c of the floats u32 | floats f32
//	             (kind says whether the second checksum is set)
//	reduce body: run u64 | step u64 | round u32 | count u32 | totals f64
//	push request:      envelope with body run u64 | shard u32 | 0 u32, then frames
//	frames:      count u32 | 0 u32 | per frame: length u32 | 0 u32 | bytes, padded
//
// The sections of a push are in ascending order (rows by table, then dense
// tensors by id), and so are the keys and offsets in them, over all its chunks.
//
// Parsers accept any bytes: they return ErrCorrupt or ErrMalformed, never
// panic, and allocate no more than the size of their input. Slices they return
// alias the input where its alignment allows it. The package keeps no state
// and is safe for concurrent use; builders and parsed values are not.
package wire
