module github.com/verdict-io/verdict/loadtest

go 1.26.0

require (
	connectrpc.com/connect v1.21.1
	github.com/verdict-io/verdict/proto v0.0.0
	google.golang.org/protobuf v1.36.12
)

replace github.com/verdict-io/verdict/proto => ../proto
