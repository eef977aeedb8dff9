package fsm

// Stats tells the size of a shard.
type Stats struct {
	Configured bool
	Version    uint64
	Tables     []TableStats
	Dense      DenseStats
	// PendingChunks and PendingBytes wait for their step to be complete.
	PendingChunks int
	PendingBytes  int
	// ImageBytes are held to read older versions.
	ImageBytes int
}

// TableStats tells the size of one table.
type TableStats struct {
	ID   uint16
	Name string
	Rows uint64
	// MemoryBytes are held for rows and index, spare room included.
	MemoryBytes uint64
	Columns     []ColumnStats
}

// ColumnStats tells the size of one column over all rows.
type ColumnStats struct {
	Name       string
	Parameters uint64
	Bytes      uint64 // of the weights
	StateBytes uint64 // of weights and slots
}

// DenseStats tells the size of the dense tensors.
type DenseStats struct {
	Tensors int
	// Parameters counts the trained elements; Running those of running
	// statistics (optimizer "ema").
	Parameters uint64
	Running    uint64
	Bytes      uint64 // of the values
	StateBytes uint64 // of values and slots
}
