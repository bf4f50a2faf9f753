// The one page of the product.

const TEXTS = {
  new: ['Not connected', 'Connect your account, and Lantern reminds your contacts of their appointments.', 'Connect'],
  connected: ['Connected', 'Lantern reads your contacts and adds new ones.'],
  needs_consent: ['Needs your consent', 'GoHighLevel has withdrawn our access. Reconnect, and all goes on as before.', 'Reconnect'],
  paused: ['Paused', 'GoHighLevel holds this location inactive. Lantern goes on by itself as soon as it is active.'],
};

const RETURNS = {
  connected: 'Thank you. Your account is connected.',
  denied: 'You did not give access. Nothing has changed.',
  error: 'That did not work. Please try again.',
};

/** Makes HTML of a template, and escapes what is put in, except for HTML. */
function html(parts, ...values) {
  const written = values.map((value) => [value ?? ''].flat().map((it) => it.html ?? escaped(String(it))).join(''));
  return { html: String.raw({ raw: parts }, ...written) };
}

const escaped = (text) => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
const time = (iso) => html`<time datetime="${iso}">${iso.slice(0, 16).replace('T', ' ')}</time>`;

const contact = ({ contactName, firstName, name, email }) => html`
  <li><b>${contactName || name || firstName || 'Without a name'}</b> <span>${email}</span></li>`;

const event = ({ type, time: when, installation }) => html`
  <tr><td>${time(when)}</td><td><code>${type}</code></td><td>${installation?.reason}</td></tr>`;

const contactsCard = (contacts) => html`
  <section class="card" aria-labelledby="contacts">
    <h2 id="contacts">Contacts in GoHighLevel</h2>
    ${contacts.length ? html`<ul class="contacts">${contacts.map(contact)}</ul>` : html`<p>No contacts yet.</p>`}
    <form method="post" action="/contacts" class="row">
      <input name="name" aria-label="Name" placeholder="Name" required maxlength="80" autocomplete="off">
      <input name="email" aria-label="Email" placeholder="Email" type="email" required autocomplete="off">
      <button class="quiet">Add</button>
    </form>
  </section>`;

const eventsCard = (events) => html`
  <section class="card" aria-labelledby="events">
    <h2 id="events">Events from evergreen</h2>
    <table><thead><tr><th>Time (UTC)</th><th>Event</th><th>Reason</th></tr></thead>
    <tbody>${events.slice(0, 8).map(event)}</tbody></table>
  </section>`;

export function page({ name, customer, contacts, events, query, problem }) {
  const [badge, text, button] = TEXTS[customer.state];
  const isPending = query.status === 'connected' && customer.state !== 'connected';
  const notice = isPending ? 'Thank you. One moment, we are setting things up.' : RETURNS[query.status];
  const code = query.status === 'error' ? query.code : '';
  const content = html`<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>Lantern – integrations</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/style.css">
</head>
<body>
  <header><b class="brand">Lantern</b><span>${name}</span></header>
  <main>
    <h1>Integrations</h1>
    ${notice && html`<p role="status" class="notice ${query.status}">${notice} ${code && html`<code>${code}</code>`}</p>`}
    ${problem && html`<p role="alert" class="notice error">${problem}</p>`}
    <section class="card integration" data-state="${customer.state}">
      <span class="logo" aria-hidden="true">G</span>
      <div>
        <h2>GoHighLevel <span class="badge">${badge}</span></h2>
        <p>${text}</p>
        ${customer.locationId && html`<p class="small">Location <code>${customer.locationId}</code>, since ${time(customer.since)} UTC</p>`}
      </div>
      ${button && html`<form method="post" action="/connect"><button>${button}</button></form>`}
    </section>
    ${customer.state === 'connected' && !problem ? contactsCard(contacts) : ''}
    ${events.length ? eventsCard(events) : ''}
  </main>
  <script>
    const isTyping = () => document.querySelector('input:focus');
    new EventSource('/changes').onmessage = ({ data }) => data === '${events[0]?.id}' || isTyping() || location.replace('/');
  </script>
</body>
</html>`;
  return content.html;
}
