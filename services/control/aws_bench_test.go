package control

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol"
	"github.com/aws/aws-sdk-go-v2/service/bedrockagentcorecontrol/types"

	controlv1 "github.com/verdict-io/verdict/proto/gen/verdict/control/v1"
)

const benchStatement = `forbid(principal, action, resource is AgentCore::Gateway) when { context.input has amount };`

// The AWS API with its SDK, unsigned, beside Connect: 8 clients on 2 processors.
func BenchmarkAWS(b *testing.B) {
	r := newBench(b).start(b)
	sdk := bedrockagentcorecontrol.New(bedrockagentcorecontrol.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(r.url), Credentials: aws.AnonymousCredentials{},
		HTTPClient: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	})
	var engines, names atomic.Int64
	engine := func(b *testing.B) string {
		b.Helper()
		e, err := sdk.CreatePolicyEngine(b.Context(), &bedrockagentcorecontrol.CreatePolicyEngineInput{Name: aws.String(fmt.Sprintf("E%d", engines.Add(1)))})
		must(b, err)
		return *e.PolicyEngineId
	}
	create := func(b *testing.B, engineID string) (*bedrockagentcorecontrol.CreatePolicyOutput, error) {
		b.Helper()
		return sdk.CreatePolicy(b.Context(), &bedrockagentcorecontrol.CreatePolicyInput{
			PolicyEngineId: aws.String(engineID), Name: aws.String(fmt.Sprintf("P%d", names.Add(1))),
			Definition: &types.PolicyDefinitionMemberCedar{Value: types.CedarPolicy{Statement: aws.String(benchStatement)}},
		})
	}
	first := engine(b)
	p, err := create(b, first)
	must(b, err)
	each := func(name string, do func(*testing.B) error) {
		b.Run(name, func(b *testing.B) {
			b.SetParallelism(4)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := do(b); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
	each("GetPolicy", func(b *testing.B) error {
		_, err := sdk.GetPolicy(b.Context(), &bedrockagentcorecontrol.GetPolicyInput{PolicyEngineId: aws.String(first), PolicyId: p.PolicyId})
		return err
	})
	each("GetPolicyConnect", func(b *testing.B) error {
		_, err := r.GetPolicy(b.Context(), &controlv1.GetPolicyRequest{PolicyEngineId: first, PolicyId: *p.PolicyId})
		return err
	})
	var current atomic.Value
	current.Store(first)
	each("CreatePolicy", func(b *testing.B) error {
		if n := names.Load(); n%900 == 0 { // an engine takes 1,000
			current.Store(engine(b))
		}
		_, err := create(b, current.Load().(string))
		return err
	})
}
