package refund

import (
	"encoding/json"
	"reflect"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	decisionv1 "github.com/verdict-io/verdict/proto/gen/verdict/decision/v1"
)

// read is a request and the JSON of its context, as a server would see them.
func read(t *testing.T, codec Codec, body []byte) (*decisionv1.AuthorizeRequest, map[string]any) {
	t.Helper()
	request := &decisionv1.AuthorizeRequest{}
	unmarshal := protojson.Unmarshal
	if codec == Binary {
		unmarshal = proto.Unmarshal
	}
	if err := unmarshal(body, request); err != nil {
		t.Fatalf("%s: %v", codec, err)
	}
	if (codec == JSON) != (request.Context != nil) || (codec == JSON) != (request.GetContextJson() == "") {
		t.Fatalf("%s has its context at the wrong place: %v", codec, request)
	}
	if codec == JSON {
		return request, request.GetContext().AsMap()
	}
	var context map[string]any
	if err := json.Unmarshal([]byte(request.GetContextJson()), &context); err != nil {
		t.Fatal(err)
	}
	return request, context
}

func TestRequestsSayTheSameInEveryCodec(t *testing.T) {
	const n = 200
	all := map[Codec][]Request{}
	for _, codec := range Codecs {
		var err error
		if all[codec], err = example.Requests(codec, n, 7); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		_, want := read(t, JSON, all[JSON][i].Body)
		for _, codec := range Codecs {
			request, context := read(t, codec, all[codec][i].Body)
			if !reflect.DeepEqual(context, want) {
				t.Errorf("%s: context %v, not %v", codec, context, want)
			}
			if amount := context["input"].(map[string]any)["amount"]; amount != float64(all[codec][i].Amount) {
				t.Errorf("%s: the amount is %v, judged as %d", codec, amount, all[codec][i].Amount)
			}
			if request.GetResource().GetId() != "arn:gw" || request.GetAction().GetId() != "RefundTarget___process_refund" {
				t.Errorf("%s: asks about %v of %v", codec, request.GetAction(), request.GetResource())
			}
		}
	}
}

func TestRequestsAreTheSameForTheSameSeed(t *testing.T) {
	amounts := func(seed uint64) (out []int) {
		requests, err := example.Requests(Binary, 100, seed)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range requests {
			out = append(out, r.Amount)
		}
		return out
	}
	if !reflect.DeepEqual(amounts(1), amounts(1)) || reflect.DeepEqual(amounts(1), amounts(2)) {
		t.Error("a seed does not decide the amounts")
	}
}

func TestRequestsLieOnBothSidesOfTheLimitAndAtIt(t *testing.T) {
	requests, err := example.Requests(JSON, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	found, less := map[int]bool{}, 0
	for _, r := range requests {
		found[r.Amount] = true
		if r.Amount < Limit {
			less++
		}
	}
	for _, edge := range []int{0, 999, 1000, 1001} {
		if !found[edge] {
			t.Errorf("no request has the amount %d", edge)
		}
	}
	if less < 25 || less > 75 {
		t.Errorf("%d of 100 are below the limit", less)
	}
}

func TestRequestsOfAnUnknownCodec(t *testing.T) {
	if _, err := example.Requests("xml", 1, 1); err == nil {
		t.Error("there are requests in XML")
	}
}
