// An OAuth 2.0 and OpenID Connect issuer that others wrote and had certified, for tests (services/internal/testenv/npm.go). Its
// argument is JSON:
//
//   {"resource": "http://…/mcp", "clients": [{"id": "…", "secret": "…", "scopes": ["…"], "claims": {…}}, …]}
//
// It listens on loopback and prints a line, {"url": "http://127.0.0.1:…"}. Its clients get access tokens for the resource by the
// grant client_credentials: JWTs, signed with RS256, with the claims that are named here. It ends with its input.
import { generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'

console.info = console.warn = console.error // the library has a lot to say, and one line is read here
const { default: Provider } = await import('oidc-provider')

const { resource, clients } = JSON.parse(process.argv[2])
const scopes = [...new Set(clients.flatMap((c) => c.scopes ?? []))]
const claims = new Map(clients.map((c) => [c.id, c.claims ?? {}]))

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const server = createServer()
await new Promise((listening) => server.listen(0, '127.0.0.1', listening))
const url = `http://127.0.0.1:${server.address().port}`
const provider = new Provider(url, {
  clients: clients.map((c) => ({
    client_id: c.id,
    client_secret: c.secret,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
    scope: (c.scopes ?? []).join(' ') || undefined,
  })),
  scopes,
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' }] },
  extraTokenClaims: (_, token) => claims.get(token.clientId),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      getResourceServerInfo: () => ({ scope: scopes.join(' '), audience: resource, accessTokenFormat: 'jwt' }),
    },
  },
})
server.on('request', provider.callback())
console.log(JSON.stringify({ url }))

process.stdin.resume().on('end', () => process.exit(0))
