package control

import (
	"fmt"
	"strings"
	"testing"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
	eventv1 "github.com/verdict-io/verdict/proto/gen/verdict/event/v1"
)

// What Verdict's own API has given a gateway or a target and this one does not show, an update here does not take away.
func TestRawUpdateKeepsWhatIsNotShown(t *testing.T) {
	t.Parallel()
	r := newBench(t).start(t)
	f := r.refund(t)
	shown := r.send(t, "GET", "/gateways/"+f.gateway+"/", "")
	name, _ := shown.body["name"].(string)
	const restricted = "allowedWorkloadConfiguration"
	_, err := r.UpdateGateway(t.Context(), &controlv1.UpdateGatewayRequest{GatewayId: f.gateway, Definition: &eventv1.GatewayDefinition{
		AuthorizerType: eventv1.AuthorizerType_AUTHORIZER_TYPE_CUSTOM_JWT,
		AuthorizerConfiguration: &eventv1.AuthorizerConfiguration{Configuration: &eventv1.AuthorizerConfiguration_CustomJwtAuthorizer{
			CustomJwtAuthorizer: &eventv1.CustomJwtAuthorizer{
				DiscoveryUrl:                 "https://example.com/.well-known/openid-configuration",
				AllowedWorkloadConfiguration: &eventv1.AllowedWorkloadConfiguration{WorkloadIdentities: []string{"w"}},
			},
		}},
	}})
	must(t, err)
	put := fmt.Sprintf(`{"name":%q,"authorizerType":"NONE"}`, name)
	r.send(t, "PUT", "/gateways/"+f.gateway+"/", put).wantRefusal(t, "an update of the gateway", refusal{"ConflictException", "", "", restricted})

	d := refundTarget()
	d.GetTargetConfiguration().GetMcp().GetLambda().ToolSchema = &eventv1.ToolSchema{S3: &eventv1.S3Configuration{Uri: "s3://bucket/tools.json"}}
	made, err := r.CreateGatewayTarget(t.Context(), &controlv1.CreateGatewayTargetRequest{GatewayId: f.gateway, Name: "Elsewhere", Definition: d})
	must(t, err)
	path := "/gateways/" + f.gateway + "/targets/" + made.GetTarget().GetTargetId() + "/"
	if got := r.send(t, "GET", path, ""); got.status != 200 || strings.Contains(got.text, "toolSchema") {
		t.Errorf("the target is shown as %d %s", got.status, got.text)
	}
	r.send(t, "PUT", path, strings.Replace(lambdaJSON, "T2", "Elsewhere", 1)).wantRefusal(t, "an update of the target", refusal{"ConflictException", "", "", "toolSchema.s3"})
}

// The limit of tags is a quota, as those of things are. Names of targets need not be in an update.
func TestRawTagsAndNames(t *testing.T) {
	t.Parallel()
	r := newBench(t).withKeys(t).start(t)
	_, ids := r.stocked(t)
	for i, want := range []int{204, 402} {
		tags := make([]string, 30)
		for j := range tags {
			tags[j] = fmt.Sprintf(`"k%d":"v"`, 30*i+j)
		}
		if got := r.send(t, "POST", ids.Replace("/tags/{engine-arn%}"), `{"tags":{`+strings.Join(tags, ",")+`}}`); got.status != want {
			t.Errorf("30 tags more: %d %v %s", got.status, got.header, got.text)
		}
	}
	made := r.send(t, "POST", ids.Replace("/gateways/{gateway}/targets"), lambdaJSON)
	path := ids.Replace("/gateways/{gateway}/targets/") + fmt.Sprint(made.body["targetId"])
	if got := r.send(t, "PUT", path, strings.Replace(lambdaJSON, `"name":"T2",`, "", 1)); got.status != 202 || got.body["name"] != "T2" {
		t.Errorf("an update without a name: %d %s", got.status, got.text)
	}
}

// gatewayUrl is the setting with the gateway's id.
func TestGatewayURL(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.cfg.GatewayURL = "https://agents.example.com/edge/"
	r := b.start(t)
	got := r.send(t, "POST", "/gateways", `{"name":"gw","authorizerType":"NONE"}`)
	if want := "https://agents.example.com/edge/gateways/" + fmt.Sprint(got.body["gatewayId"]) + "/mcp"; got.body["gatewayUrl"] != want {
		t.Errorf("gatewayUrl is %v, want %s", got.body["gatewayUrl"], want)
	}
	for _, setting := range []string{"--gateway-url=ftp://example.com", "--gateway-url=example.com", "--gateway-url=http://example.com/?a=b", "--throttle=on"} {
		name, _, _ := strings.Cut(setting, "=")
		err := Main(t.Context(), []string{setting, "--postgres-url=x", "--signing-key=x"}, nil)
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(name, "--")) {
			t.Errorf("%s: %v", setting, err)
		}
	}
}
