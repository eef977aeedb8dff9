package shard

// goldenKeys belong to TestKeysKeepTheirGoldenValues, in its order. They were
// computed by a separate program, not by this package.
var goldenKeys = []Key{
	0xdafd30da6c442211,
	0x8ca0677c4e52b578,
	0xdd25354ad517a734,
	0x350ec0029011e981,
	0xaa5cbd5887acb475,
	0xe476e8d05eb16777,
	0xf194327224632c29,
	0xdf51e1fc0b0498fb,
	0x477fc5b843e051c2,
	0xd347b7a1d4cef4f6,
	0x32ef5595a4cd4665,
	0x431d1c04d655df3b,
}
