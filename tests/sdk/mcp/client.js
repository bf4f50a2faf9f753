// Uses GHL's MCP server: node client.js <URL> <key> <location>
// Prints the results as one JSON object.

const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const {
  StreamableHTTPClientTransport,
} = require('@modelcontextprotocol/sdk/client/streamableHttp.js');
const { LoggingMessageNotificationSchema } = require('@modelcontextprotocol/sdk/types.js');

const [url, key, locationId] = process.argv.slice(2);

async function main() {
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers: { Authorization: `Bearer ${key}`, locationId } },
  });
  const client = new Client({ name: 'test', version: '1.0.0' });
  const notified = new Promise((resolve) => {
    client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) =>
      resolve(params.data),
    );
  });
  await client.connect(transport);
  const { tools } = await client.listTools();
  const calls = [];
  for (const query of ['nora', 'nobody', 'nora']) {
    const call = await client.callTool({ name: 'contacts_get-contacts', arguments: { query } });
    const { contacts } = JSON.parse(call.content[0].text);
    calls.push(contacts.map((contact) => contact.email));
  }
  // This arrives in the stream that the SDK opened with GET.
  const notification = await notified;
  const sessionId = transport.sessionId;
  const server = client.getServerVersion();
  await transport.terminateSession();
  await client.close();
  console.log(
    JSON.stringify({
      server: server.name,
      tools: tools.map((tool) => tool.name),
      contacts: calls,
      notification,
      hadSession: typeof sessionId === 'string',
    }),
  );
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
