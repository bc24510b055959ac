// The MCP client of npm, for tests (services/internal/testenv/npm.go): a command a line, in JSON, an answer a line.
//
//   {"do": "connect", "url": "http://…/mcp", "headers": {…}}   {"result": {"protocolVersion", "serverInfo", "capabilities", "sessionId"}}
//   {"do": "list"}                                             {"result": {"tools": […], "pages": 2}}   the tools of all pages
//   {"do": "call", "name": "…", "arguments": {…}}              {"result": {"content": […], …}}
//   {"do": "ping"}, {"do": "close"}                            {"result": {}}
//
// What fails is answered with {"error": {"code", "message", "data"}}: the code is JSON-RPC's, or the status of HTTP. It ends with
// its input.
import { createInterface } from 'node:readline'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

let client, transport

const commands = {
  async connect({ url, headers }) {
    await client?.close()
    client = new Client({ name: 'verdict-tests', version: '1.0.0' })
    transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } })
    await client.connect(transport)
    return {
      protocolVersion: transport.protocolVersion,
      serverInfo: client.getServerVersion(),
      capabilities: client.getServerCapabilities(),
      sessionId: transport.sessionId,
    }
  },
  async list() {
    const tools = []
    let pages = 0
    let cursor
    do {
      const page = await client.listTools(cursor === undefined ? {} : { cursor })
      tools.push(...page.tools)
      cursor = page.nextCursor
      pages++
    } while (cursor !== undefined)
    return { tools, pages }
  },
  call: ({ name, arguments: args }) => client.callTool({ name, arguments: args }),
  ping: () => client.ping(),
  async close() {
    await client?.close()
    client = undefined
    return {}
  },
}

const failure = ({ code, message, data }) => ({ error: { code: Number.isInteger(code) ? code : 0, message, data } })

const answer = async (line) => {
  const { do: what, ...rest } = JSON.parse(line)
  if (what !== 'connect' && what !== 'close' && client === undefined) throw new Error('connect first')
  return { result: await commands[what](rest) }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(line).catch(failure)))
}
process.exit(0) // a stream of the server's may still be open
