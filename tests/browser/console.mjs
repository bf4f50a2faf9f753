// Walks through evergreen's console with a real Chromium:
// CONSOLE_KEY=evg_… node console.mjs <sign-in link> <sandbox's URL> <location> <directory for screenshots>
//
// Sign in by the link, connect a customer of the sandbox, break the connection, see why, reconnect; keys; sign out; the
// same without JavaScript. Every page is checked (inspect.mjs). Fails at the first step that does not happen. The console
// must be of a new `evergreen up` over its sandbox. CONSOLE_KEY is a key with the scope `admin`. CHROMIUM names another
// browser.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { CONTEXT, inspect, watch } from './inspect.mjs';

const [link, sandbox, locationId, directory] = process.argv.slice(2);
const { origin } = new URL(link);
mkdirSync(directory, { recursive: true });

// Only three refusals within a minute end an installation.
const UNTIL_REFUSED = 150_000;
const CUSTOMER = 'harbor-dental';

const problems = [];
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const browser = await chromium.launch({ executablePath });

async function newContext(options) {
  const context = await browser.newContext({ ...CONTEXT, ...options });
  // A step takes about a second. The rest is for a busy machine.
  context.setDefaultTimeout(60_000);
  await watch(context, problems, [origin]);
  return context;
}

const operator = await newContext();
await operator.grantPermissions(['clipboard-read', 'clipboard-write'], { origin });
const page = await operator.newPage();

const button = (name, of = page) => of.getByRole('button', { name, exact: true });
const expect = (holds, what) => { if (!holds) throw new Error(what); };

/** Opens a page by the navigation, as a person does. */
async function open(section, of = page) {
  await of.getByRole('navigation', { name: 'Console' }).getByRole('link', { name: section, exact: true }).click();
  await of.getByRole('heading', { level: 1, name: section }).waitFor();
}

async function signInByLink() {
  await page.goto(link);
  await inspect(page, 'sign-in-link', directory, { hasFrame: false });
  await button('Sign in').click();
  await page.getByRole('heading', { level: 1, name: 'Overview' }).waitFor();
  const [cookie] = (await operator.cookies()).filter(({ name }) => name.includes('console'));
  expect(cookie.httpOnly && cookie.sameSite === 'Strict', `the cookie of the session is ${JSON.stringify(cookie)}`);

  const stranger = await newContext();
  const second = await stranger.newPage();
  await second.goto(link);
  await second.getByText('used before').waitFor();
  await second.goto(`${origin}/console/keys`);
  await button('Sign in', second).waitFor();
  await inspect(second, 'sign-in', directory, { hasFrame: false });
  await stranger.close();
}

/** A customer of the operator opens a connect link in a browser of its own, and consents at the sandbox. */
async function consent(url, location = locationId) {
  const context = await browser.newContext(CONTEXT);
  const customer = await context.newPage();
  await customer.goto(url);
  if (location === locationId) {
    await customer.locator(`.card:has(input[name=locationId][value="${location}"]) button`).click();
  } else {
    // The sandbox's page lists only some of the locations.
    const form = { locationId: location };
    const chosen = await customer.request.post(customer.url(), { form, maxRedirects: 0 });
    await customer.goto(chosen.headers().location);
  }
  await customer.getByRole('heading', { name: 'Connected' }).waitFor();
  await customer.screenshot({ path: join(directory, `consent-result.png`) });
  await context.close();
}

/** Connects a customer by a one-time link of the console. */
async function connectCustomer() {
  await open('Connect a customer');
  await inspect(page, 'connect', directory);
  await page.getByLabel('External id').fill(CUSTOMER);
  await page.getByLabel('Tags').fill('trial');
  await button('Make the link').click();
  await consent(await linkMade('connect-link'));
}

/** The one-time link that the page shows. */
async function linkMade(name) {
  const link = await page.locator('#link').textContent();
  await inspect(page, name, directory);
  return link;
}

/** The state of the installation whose page is shown. */
async function isIn(state) {
  await page.locator('main .heading .badge').getByText(state, { exact: true }).waitFor();
}

async function seesInstallation() {
  await open('Installations');
  await page.getByLabel('Search').fill(CUSTOMER);
  await page.getByLabel('Search').press('Enter');
  const row = page.getByRole('row').filter({ hasText: locationId });
  await row.getByText('connected', { exact: true }).waitFor();
  await inspect(page, 'installations', directory);
  await row.getByRole('rowheader').getByRole('link').first().click();
  await isIn('connected');
  expect((await page.getByLabel('External id').inputValue()) === CUSTOMER, 'the external id is not shown');
  expect((await page.getByLabel('Tags').inputValue()) === 'trial', 'the tag is not shown');
  await inspect(page, 'installation', directory);
  await button('Refresh now').first().click();
  await page.getByText('The token is fresh.').waitFor();
}

/** The consent is revoked at GHL. The page of the installation says so, why, and what to do. */
async function breakAndMend() {
  await page.request.post(`${sandbox}/_sandbox/revoke`, { data: { locationId }, failOnStatusCode: true });
  const broken = page.locator('main .heading .badge').getByText('needs consent', { exact: true });
  for (const end = Date.now() + UNTIL_REFUSED; !(await broken.isVisible());) {
    expect(Date.now() < end, 'the installation does not need consent');
    await button('Refresh now').first().click();
    await page.getByRole('status').first().waitFor();
  }
  const url = page.url();
  await page.getByText(/GHL refused its refresh token/).first().waitFor();
  await page.getByRole('heading', { name: 'What to do' }).waitFor();
  await inspect(page, 'installation-needs-consent', directory);
  await open('Overview');
  await inspect(page, 'overview-needs-consent', directory);

  await page.goto(url);
  await button('Make a link to connect again').first().click();
  await consent(await linkMade('reconnect-link'));
  await page.goto(url);
  await isIn('connected');
  await inspect(page, 'installation-reconnected', directory);
}

/** Creates a key, which is shown once, and revokes it. */
async function createAndRevokeKey() {
  await open('Keys');
  await inspect(page, 'keys', directory);
  await page.getByRole('link', { name: 'Create a key' }).click();
  await page.getByLabel('Name').fill('walker');
  await page.getByRole('checkbox', { name: /^view / }).check();
  await inspect(page, 'key-new', directory);
  await button('Create the key').click();
  const key = await page.locator('#key').textContent();
  expect(/^evg_[0-9a-f]+$/.test(key), 'the new key is not shown');
  await button('Copy').click();
  await button('Copied').waitFor();
  expect((await page.evaluate(() => navigator.clipboard.readText())) === key, 'another text was copied');
  await inspect(page, 'key-made', directory);

  await viewerSeesAndChangesNothing(key);

  await open('Keys');
  expect(!(await page.content()).includes(key), 'the key is shown twice');
  await page.getByRole('row', { name: /walker/ }).getByRole('link', { name: /^Revoke/ }).click();
  await inspect(page, 'key-revoke', directory);
  await button('Revoke the key').click();
  await page.getByText('The key walker is revoked').waitFor();
  expect((await page.getByRole('row', { name: /walker/ }).count()) === 0, 'the revoked key is still listed');
}

/** A key with the scope `view` shows the pages without buttons. */
async function viewerSeesAndChangesNothing(key) {
  const context = await newContext();
  const viewer = await context.newPage();
  await viewer.goto(`${origin}/console/keys`);
  await viewer.getByLabel('Key').fill(key);
  await button('Sign in', viewer).click();
  await viewer.getByText('read only').waitFor();
  await viewer.getByRole('heading', { level: 1, name: 'Keys' }).waitFor();
  for (const section of ['Overview', 'Installations', 'Apps', 'Events', 'Audit', 'Keys']) {
    await open(section, viewer);
    const changes = viewer.locator('main form[method=post]');
    expect((await changes.count()) === 0, `${section} offers changes to a viewer`);
  }
  await inspect(viewer, 'keys-of-a-viewer', directory);
  await context.close();
}

async function otherPages() {
  for (const [section, name] of [['Apps', 'apps'], ['Events', 'events'], ['Audit', 'audit']]) {
    await open(section);
    await inspect(page, name, directory);
  }
  const response = await page.goto(`${origin}/console/nowhere`);
  expect(response.status() === 404, `an unknown page is a ${response.status()}`);
  await inspect(page, 'no-such-page', directory);
}

/** The longest names that there may be break no page. */
async function holdsLongNames() {
  const location = 'W'.repeat(64);
  const names = { external_id: 'X'.repeat(128), tags: ['Y'.repeat(64), 'Z'.repeat(64)] };
  await page.request.post(`${sandbox}/_sandbox/locations`, { data: { locationId: location }, failOnStatusCode: true });
  const headers = { authorization: `Bearer ${process.env.CONSOLE_KEY}` };
  const made = await page.request.post(`${origin}/v1/connect-links`, { data: names, headers, failOnStatusCode: true });
  await consent((await made.json()).url, location);
  const key = { name: 'K'.repeat(100), scopes: ['proxy'] };
  await page.request.post(`${origin}/v1/keys`, { data: key, headers, failOnStatusCode: true });
  await open('Installations');
  await inspect(page, 'long-names', directory);
  await page.getByRole('row').filter({ hasText: location }).getByRole('rowheader').getByRole('link').first().click();
  await isIn('connected');
  await inspect(page, 'long-installation', directory);
  await page.getByRole('link', { name: 'Delete', exact: true }).click();
  await inspect(page, 'long-delete', directory);
  for (const section of ['Overview', 'Keys', 'Events', 'Audit']) {
    await open(section);
    await inspect(page, `long-${section.toLowerCase()}`, directory);
  }
}

/** After the sign-out the back button and the old cookie show nothing. */
async function signOut() {
  await open('Keys');
  const cookies = await operator.cookies();
  await button('Sign out').click();
  const field = page.getByLabel('Key');
  await field.waitFor();
  await page.goBack();
  await field.waitFor();
  expect((await page.getByRole('navigation', { name: 'Console' }).count()) === 0, 'the back button shows the console');
  await operator.addCookies(cookies);
  await page.goto(`${origin}/console/keys`);
  await field.waitFor();
}

/** Sign in, see and revoke without JavaScript. */
async function worksWithoutJavaScript() {
  const context = await newContext({ javaScriptEnabled: false });
  const plain = await context.newPage();
  await plain.goto(`${origin}/console/keys`);
  await plain.getByLabel('Key').fill(process.env.CONSOLE_KEY);
  await button('Sign in', plain).click();
  await open('Overview', plain);
  await open('Installations', plain);
  await plain.locator('main').getByText(locationId).first().waitFor();
  await plain.screenshot({ path: join(directory, 'without-javascript.png'), fullPage: true });
  const row = plain.getByRole('row').filter({ hasText: locationId });
  await row.getByRole('rowheader').getByRole('link').first().click();
  await plain.getByRole('link', { name: 'Revoke', exact: true }).click();
  await plain.getByText(/^Revoke the installation of/).waitFor();
  await button('Revoke the installation', plain).click();
  await plain.locator('main .heading .badge').getByText('ended', { exact: true }).waitFor();
  await context.close();
}

try {
  await signInByLink();
  await inspect(page, 'overview-empty', directory);
  await connectCustomer();
  await seesInstallation();
  await breakAndMend();
  await createAndRevokeKey();
  await otherPages();
  await holdsLongNames();
  await signOut();
  await worksWithoutJavaScript();
  if (problems.length > 0) throw new Error(problems.join('\n'));
} catch (error) {
  process.exitCode = 1;
  console.error(error, problems, page.url());
  // This fails, too, if the browser has crashed.
  await page.screenshot({ path: join(directory, 'failed.png'), fullPage: true }).catch(console.error);
} finally {
  await browser.close();
}
