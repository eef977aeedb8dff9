// Package fsm is the deterministic state machine of one shard: it applies
// committed commands to tables and dense tensors and answers reads at a named
// version. It imports no raft, starts no goroutine and reads no clock; equal
// commands in equal order give equal bits on every replica and machine.
//
// A push is keyed by (phase, step, lane, chunk). The chunks of step version+1,
// and with a pipeline of depth k those of the k steps behind it, are kept
// until all lanes are complete, whatever their order of arrival; then the step
// is applied at once, keys ascending, lanes summed in lane order. Steps are
// applied in their order, also when a later one is complete first. So neither
// retries, nor duplicates, nor the number of workers can be seen in the model.
//
// Apply has a single caller at a time. Everything else may run beside it and
// beside itself; Restore and Close must not run beside Apply.
//
//	s := fsm.New()
//	schemaBytes, err := fsm.MarshalSchema(schema)
//	s.Apply(1, wire.AppendConfigure(nil, schemaBytes))
//	for i, cmd := range push.Chunks() {
//		r := s.Apply(uint64(2+i), cmd)
//	}
//	n, err := s.Floats(&request)
//	weights := make([]float32, n)
//	err = s.Lookup(version, &request, weights)
package fsm
