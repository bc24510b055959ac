//go:build ignore

// Writes the messages beside it as Envoy would, with github.com/envoyproxy/go-control-plane/envoy v1.40.0, in a module of its own: go run .
// FOLDER. That module links gRPC, which nodes do without.
package main

import (
	"os"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const gateway = "arn:aws:bedrock-agentcore:us-east-1:111111111111:gateway/refund-gw-0123456789"

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func main() {
	claims := must(structpb.NewStruct(map[string]any{"jwt_payload": map[string]any{"sub": "u-1", "role": "agent", "iat": 1700000000, "groups": []any{"a", "b"}}}))
	peer := func(port uint32) *auth.AttributeContext_Peer {
		return &auth.AttributeContext_Peer{Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
			Address: "192.0.2.1", PortSpecifier: &core.SocketAddress_PortValue{PortValue: port}}}}, Principal: "spiffe://x/y", Labels: map[string]string{"a": "b"}}
	}
	write("check_request.binpb", &auth.CheckRequest{Attributes: &auth.AttributeContext{
		Source: peer(1), Destination: peer(2),
		Request: &auth.AttributeContext_Request{Time: &timestamppb.Timestamp{Seconds: 1700000000}, Http: &auth.AttributeContext_HttpRequest{
			Id: "7216584193", Method: "POST", Path: "/mcp", Host: "tools.example.com", Scheme: "https", Size: 100, Protocol: "HTTP/2",
			Headers: map[string]string{":method": "POST", "content-type": "application/json", "x-request-id": "envoy-1", "x-envoy-auth-partial-body": "false"},
			Body:    `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"process_refund","arguments":{"orderId":"1","amount":500}}}`,
		}},
		ContextExtensions:    map[string]string{"verdict.gateway": gateway, "verdict.target": "RefundTarget", "virtual_host": "tools"},
		MetadataContext:      &core.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.filters.http.jwt_authn": claims}},
		RouteMetadataContext: &core.Metadata{FilterMetadata: map[string]*structpb.Struct{"x": claims}},
		TlsSession:           &auth.AttributeContext_TLSSession{Sni: "tools.example.com"},
	}})
	hdr := func(k, v string) *core.HeaderValueOption {
		return &core.HeaderValueOption{Header: &core.HeaderValue{Key: k, Value: v}, AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD}
	}
	write("check_allowed.binpb", &auth.CheckResponse{Status: &status.Status{}, HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{
		Headers: []*core.HeaderValueOption{hdr("x-verdict-decision-id", "ID")}}}})
	write("check_passed.binpb", &auth.CheckResponse{Status: &status.Status{}, HttpResponse: &auth.CheckResponse_OkResponse{OkResponse: &auth.OkHttpResponse{
		HeadersToRemove: []string{"x-verdict-decision-id"}}}})
	text := "Tool Execution Denied: Tool call not allowed due to policy enforcement [No policy applies to the request (denied by default).]"
	write("check_denied.binpb", &auth.CheckResponse{Status: &status.Status{Code: 7, Message: text}, HttpResponse: &auth.CheckResponse_DeniedResponse{DeniedResponse: &auth.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode_Forbidden}, Headers: []*core.HeaderValueOption{hdr("content-type", "application/json"), hdr("x-verdict-decision-id", "ID")},
		Body: `{"jsonrpc":"2.0","id":7,"error":{"code":-32002,"message":"` + text + `"}}`}}})
}

func write(name string, m proto.Message) {
	if err := os.WriteFile(os.Args[1]+"/"+name, must(proto.MarshalOptions{Deterministic: true}.Marshal(m)), 0o644); err != nil {
		panic(err)
	}
}
