// Package proto holds the wire contract between fathom's processes: the
// generated code of coordinator.proto and ps.proto, and nothing else.
//
// Regenerate with `make proto`; users never need to.
package proto
