package rpc

import (
	"compress/gzip"
	"errors"
	"io"

	"connectrpc.com/connect"
)

// boundedGzip is Connect's gzip, except that it stops soon behind the limit of a message. Connect goes on to the end of
// a message that is too large, to tell its size; at a thousand to one, that is long.
func boundedGzip(maxBytes int) connect.HandlerOption {
	return connect.WithCompression("gzip",
		func() connect.Decompressor { return &boundedReader{most: int64(maxBytes) + 1} },
		func() connect.Compressor { return gzip.NewWriter(io.Discard) },
	)
}

// errExpands is behind an error of Connect that tells the limit.
var errExpands = errors.New("the compressed message expands beyond it")

// boundedReader yields the first bytes, up to most, of a gzip stream.
type boundedReader struct {
	gzip gzip.Reader
	most int64
	left int64
}

// Read is part of connect.Decompressor.
func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errExpands
	}
	n, err := b.gzip.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// Reset is part of connect.Decompressor.
func (b *boundedReader) Reset(from io.Reader) error {
	b.left = b.most
	return b.gzip.Reset(from)
}

// Close is part of connect.Decompressor.
func (b *boundedReader) Close() error { return b.gzip.Close() }
