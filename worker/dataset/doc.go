// Package dataset reads training data: it turns files of CSV, TSV, libsvm,
// libffm, Parquet or Arrow, or a generator, into batches of keys, weights and
// labels, and decides the order in which samples are trained on.
//
// # From files to batches
//
// Every file is cut into units: the smallest ranges of rows that can be read
// alone. A unit of a text file is 8192 records. A unit of a Parquet or Arrow
// file is one row group or record batch, or several consecutive ones as long
// as they have at most 8192 rows together. A unit is decoded into Arrow record
// batches of at most 8192 rows, and those by the schema (job.Field) into a
// compact block of keys. Blocks are kept in a cache of Data.CacheBytes.
//
// Open decodes everything once. It counts rows and positives, finds every bad
// record at once instead of after an hour, takes a digest of what was decoded,
// and leaves the cache warm. Bad records (at most Data.MaxBadRecords) do not
// count as rows, so row numbers are the same for every worker.
//
// # Keys
//
// A value of a categorical field has the key shard.Hasher.String of its exact
// bytes; an integer hashes as its decimal text, a float as its shortest
// decimal text ("3", "0.5"), a bool as "true" or "false", so that the same
// table stored as CSV and as Parquet gives the same keys. Empty text, null and
// NaN are missing. Rows of libsvm and libffm files map to fields so:
//
//   - libffm, "label field:feature:value": a field's Column (default: its
//     name) is the number of the libffm field. A categorical field takes the
//     feature texts as values and scales each by value; a numeric field takes
//     the value of its one feature. Fields not listed are ignored.
//   - libsvm, "label index:value": a field's Column is a range of indices
//     "lo-hi" (both inclusive), one index "i", or "*" for all; a Column (or
//     name, when there is no Column) that is none of these means all indices.
//     The index is the feature's text. A line may end in a "# comment".
//
// # Order
//
// Split.ReadEpoch reads by position in an epoch's order, which is a pure
// function of (seed, epoch, row counts of the units, ShuffleWindowRows): see
// order.go. Nobody stores a cursor.
//
// All of it is safe for concurrent use; a Batch belongs to its caller.
package dataset
