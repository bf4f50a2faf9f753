// A fleet of a sandbox's customers that looks like one of a real product, for the screenshots of the manual:
// two agencies, customers of their own, one whose consent is gone, one that is paused, one that has left.

import { createHash } from 'node:crypto';

/** The id of a location or company, which looks as if GHL had made it: 20 letters and digits. */
const idOf = (name) => createHash('sha256').update(name).digest('base64').replaceAll(/[^A-Za-z0-9]/g, '').slice(0, 20);
const slug = (name) => name.toLowerCase().replaceAll(/[^a-z]+/g, '-').replaceAll(/^-|-$/g, '');

const AGENCIES = [
  {
    name: 'Brightside Marketing',
    locations: ['Harbor Dental', 'Maple Street Yoga', 'Oak and Ember Kitchen', 'Juniper Skin Clinic', 'Bayview Vets', 'Corner Cycle Works'],
  },
  { name: 'Tidewater Growth', locations: ['Saltmarsh Sailing School', 'Pier Nine Fitness', 'Lighthouse Physio'] },
];

const CUSTOMERS = [
  ['Alder and Finch Books', ['trial']],
  ['Blue Door Bakery', ['paying', 'eu']],
  ['Cedar Lane Plumbing', ['paying']],
  ['Dovetail Joinery', ['paying']],
  ['Elm Park Opticians', ['paying', 'eu']],
  ['Foxglove Flowers', ['trial']],
  ['Greyfriars Law', ['paying', 'vip']],
  ['Hazel Grove Nursery', ['paying']],
  ['Ironbridge Climbing', ['paying']],
  ['Kestrel Roofing', ['trial', 'eu']],
  ['Larkspur Interiors', ['paying']],
];
/** Has withdrawn the consent at GHL. */
const BROKEN = 'Kestrel Roofing';
/** GHL has suspended its account. */
const PAUSED = 'Foxglove Flowers';
/** Has uninstalled the app. */
const LEFT = 'Alder and Finch Books';

const KEYS = [
  { name: 'portal', scopes: ['connect', 'proxy'] },
  { name: 'crm-sync', scopes: ['proxy'], quota: '200/10s' },
  { name: 'nightly-export', scopes: ['tokens'], expires_at_ms: Date.now() + 30 * 86_400_000 },
  { name: 'wallboard', scopes: ['view'] },
];

export async function seed({ internal, public: gateway, sandbox, key }) {
  async function send(method, url, body, headers = {}) {
    const json = body && JSON.stringify(body);
    const all = { ...(json && { 'content-type': 'application/json' }), authorization: `Bearer ${key}`, ...headers };
    const response = await fetch(url, { method, body: json, headers: all, redirect: 'manual' });
    const text = await response.text();
    const isExpected = response.status < 400;
    if (!isExpected) throw new Error(`${method} ${url}: ${response.status} ${text}`);
    const isJson = response.headers.get('content-type')?.includes('json');
    return { response, body: isJson && text ? JSON.parse(text) : text };
  }

  const steer = (what, body) => send('POST', `${sandbox}/_sandbox/${what}`, body);
  const admin = (method, path, body) => send(method, `${internal}/v1${path}`, body);

  /** Consents at the sandbox's page, as a browser does. `choice`: a location or a company. */
  async function consent(link, choice) {
    const begun = await send('GET', link, undefined, { accept: 'text/html' });
    const [cookie] = (begun.response.headers.get('set-cookie') ?? '').split(';');
    const form = new URLSearchParams(choice);
    const there = begun.response.headers.get('location');
    const chosen = await fetch(there, { method: 'POST', body: form, redirect: 'manual' });
    const back = chosen.headers.get('location');
    if (!back) throw new Error(`${there}: ${chosen.status} ${await chosen.text()}`);
    await send('GET', back, undefined, { accept: 'text/html', cookie });
  }

  async function connect(name, tags, choice) {
    const link = await admin('POST', '/connect-links', { external_id: slug(name), tags });
    await consent(link.body.url, choice);
  }

  /** Repeats it until it holds. */
  async function until(what, check) {
    for (let left = 120; left > 0; left -= 1) {
      if (await check()) return;
      await new Promise((resolve) => { setTimeout(resolve, 500); });
    }
    throw new Error(`waited for ${what}`);
  }

  async function status(name) {
    const { body } = await admin('GET', `/installations/${slug(name)}`);
    return body.tokenStatus;
  }

  async function becomes(name, wanted) {
    await until(`${name} to be ${wanted}`, async () => {
      // A refresh that fails is an answer such as 409.
      await admin('POST', `/installations/${slug(name)}/refresh`).catch(() => {});
      return (await status(name)) === wanted;
    });
  }

  for (const { name, locations } of AGENCIES) {
    const companyId = idOf(name);
    await steer('agencies', { companyId, locations: 0, name });
    for (const location of locations) await steer('locations', { companyId, locationId: idOf(location), name: location });
    await connect(name, ['agency'], { companyId, all: 'true' });
    const listed = () => admin('GET', `/installations?company=${companyId}&limit=100`);
    await until(`the locations of ${name}`, async () => (await listed()).body.installations.length > locations.length);
    for (const location of locations) {
      await admin('PATCH', `/installations/${idOf(location)}`, { external_id: slug(location), tags: ['agency'] });
    }
  }
  // They have connected at different times of the day.
  for (const [number, [name, tags]] of CUSTOMERS.entries()) {
    await send('PUT', `${sandbox}/_sandbox/settings`, { token_lifetime_ms: Math.round((24 - 1.7 * number) * 3_600_000) });
    const companyId = idOf(`Own ${name}`);
    await steer('agencies', { companyId, locations: 0, name });
    await connect(name, tags, { locationId: idOf(name), companyId });
  }

  for (const { name, ...rest } of KEYS) await admin('POST', '/keys', { name, ...rest });
  const caller = (await admin('POST', '/keys', { name: 'booking-site', scopes: ['proxy'] })).body.key;
  const called = [...CUSTOMERS.map(([name]) => name), ...AGENCIES.flatMap(({ locations }) => locations)];
  for (const name of called) {
    const url = `${gateway}/ghl/contacts/?locationId=${idOf(name)}&limit=5`;
    await send('GET', url, undefined, { authorization: `Bearer ${caller}` });
  }

  for (const name of ['Blue Door Bakery', 'Greyfriars Law', 'Dovetail Joinery']) await admin('POST', `/installations/${slug(name)}/refresh`);
  await steer('pause', { locationId: idOf(PAUSED) });
  await becomes(PAUSED, 'paused');
  await admin('POST', `/installations/${slug(LEFT)}/revoke`);
  await steer('revoke', { locationId: idOf(BROKEN) });
  await becomes(BROKEN, 'invalid');
  return { agency: slug(AGENCIES[0].name), broken: slug(BROKEN), working: slug('Greyfriars Law') };
}
