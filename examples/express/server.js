// A small product whose customers connect GoHighLevel (GHL) through evergreen. It has no token, no callback route and no
// refresh timer: evergreen has them. README.md says how to run it.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import express from 'express';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { page } from './page.js';

const { EVERGREEN_KEY, EVENTS_SECRET, PORT = 3000, DATA_FILE = 'customers.json' } = process.env;
const { EVERGREEN_URL = 'http://127.0.0.1:9080', GATEWAY_URL = 'http://127.0.0.1:8080' } = process.env;
const { PUBLIC_URL = `http://127.0.0.1:${PORT}` } = process.env;
const CUSTOMER = 'harbor-dental'; // A real product takes the customer from its login session.

const data = existsSync(DATA_FILE) ? JSON.parse(readFileSync(DATA_FILE, 'utf8')) : { customers: {}, events: [] };
const browsers = new Set(); // Open pages. They reload after an event.
// The state of the customer's connection after an event of each type. Other events change nothing.
const STATES = { needs_consent: 'needs_consent', paused: 'paused', uninstalled: 'new' };
for (const type of ['connected', 'reconnected', 'recovered', 'resumed']) STATES[type] = 'connected';
const webhook = new Webhook(EVENTS_SECRET);
const app = express();

async function call(url, body, headers) {
  const all = { authorization: `Bearer ${EVERGREEN_KEY}`, 'content-type': 'application/json', ...headers };
  const method = body ? 'POST' : 'GET';
  const response = await fetch(url, { method, headers: all, body: body && JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

// GHL's API through evergreen's gateway. The product's own id of the customer names the installation.
const ghl = (path, body) => call(`${GATEWAY_URL}/ghl${path}`, body, { 'X-Installation-Id': CUSTOMER });

async function show(response, query, problem) {
  const customer = data.customers[CUSTOMER] ?? { state: 'new' };
  const list = () => ghl(`/contacts/?locationId=${customer.locationId}&limit=5`).catch((error) => (problem = error.message));
  const { contacts } = customer.state === 'connected' && !problem ? await list() : {};
  response.send(page({ name: CUSTOMER, customer, contacts, events: data.events, query, problem }));
}

app.use(express.static(fileURLToPath(new URL('public', import.meta.url))));
app.get('/', (request, response) => show(response, request.query));

app.post('/connect', async (request, response) => {
  const isKnown = data.customers[CUSTOMER]?.state === 'needs_consent';
  const path = isKnown ? `/v1/installations/${CUSTOMER}/reconnect-link` : '/v1/connect-links';
  const body = { return_to: `${PUBLIC_URL}/`, ...(!isKnown && { external_id: CUSTOMER }) };
  response.redirect(303, (await call(EVERGREEN_URL + path, body)).url);
});

app.post('/contacts', express.urlencoded(), async (request, response) => {
  const { name, email } = request.body;
  await ghl('/contacts/', { locationId: data.customers[CUSTOMER].locationId, name, email });
  response.redirect(303, '/');
});

// evergreen says what became of each installation. An event can arrive twice.
app.post('/events', express.raw({ type: () => true }), (request, response) => {
  const event = webhook.verify(request.body, request.headers);
  if (!data.events.some(({ id }) => id === event.id)) {
    const { externalId, locationId } = event.installation ?? {};
    const state = STATES[event.type.replace('installation.', '')];
    if (externalId && state) data.customers[externalId] = { state, locationId, since: event.time };
    data.events = [event, ...data.events].slice(0, 50);
    writeFileSync(DATA_FILE, JSON.stringify(data, null, 2));
    for (const browser of browsers) browser.write(`data: ${event.id}\n\n`);
  }
  response.sendStatus(204);
});

app.get('/changes', (request, response) => {
  response.set('content-type', 'text/event-stream').write(`data: ${data.events[0]?.id ?? ''}\n\n`);
  browsers.add(response);
  response.on('close', () => browsers.delete(response));
});

app.use((error, request, response, next) => {
  if (error instanceof WebhookVerificationError) return response.status(401).send(error.message);
  show(response.status(502), {}, error.message).catch(next);
});

app.listen(PORT, '127.0.0.1', () => console.log(`open ${PUBLIC_URL}`));
