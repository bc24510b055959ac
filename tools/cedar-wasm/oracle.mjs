// Answers what the official implementation of Cedar says, for tests (services/snapshot/wasm_test.go): a line of JSON in, a line
// of JSON out.
//
//   in   {"sets": [{"id": "policy text", …}, …], "requests": [{principal, action, resource, context, entities}, …]}
//   out  {"answers": [[{"allow": true, "reasons": ["id"], "errors": ["id"]}, …], …]}   a list of one answer a set for each request
//
// The first line says which version answers. Whatever goes wrong ends it: an instance that has failed once is not to be trusted.
import { createInterface } from 'node:readline'
import * as cedar from '@cedar-policy/cedar-wasm/nodejs'

const must = (answer, what) => {
  if (answer.type !== 'success') throw new Error(`${what}: ${JSON.stringify(answer.errors)}`)
  return answer
}

const nothing = { allow: false, reasons: [], errors: [] }

const answer = ({ sets, requests }) => {
  sets.forEach((policies, i) => must(cedar.preparsePolicySet(`set${i}`, { staticPolicies: policies }), JSON.stringify(policies)))
  return requests.map((request) =>
    sets.map((policies, i) => {
      if (Object.keys(policies).length === 0) return nothing
      const { response } = must(cedar.statefulIsAuthorized({ ...request, preparsedPolicySetId: `set${i}` }), JSON.stringify(request))
      const { reason, errors } = response.diagnostics
      return { allow: response.decision === 'allow', reasons: [...reason].sort(), errors: errors.map((e) => e.policyId).sort() }
    }),
  )
}

console.log(JSON.stringify({ version: cedar.getCedarSDKVersion() }))
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify({ answers: answer(JSON.parse(line)) }))
}
