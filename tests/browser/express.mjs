// Walks through examples/express with a real Chromium:
// node express.mjs <the product's URL> <the sandbox's URL> <location> <directory for screenshots>
//
// connect, call GHL, be revoked in the sandbox, see "needs consent", reconnect, call GHL again. Fails at the first step
// that does not happen. The product must be new, and evergreen must run over the sandbox. CHROMIUM names another browser.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [product, sandbox, locationId, directory] = process.argv.slice(2);
mkdirSync(directory, { recursive: true });

// Only three refusals within a minute end an installation.
const UNTIL_REFUSED = 150_000;

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const browser = await chromium.launch({ executablePath });
const page = await browser.newPage({ viewport: { width: 900, height: 760 } });
// A step takes about a second. The rest is for a busy machine.
page.setDefaultTimeout(60_000);
const problems = [];
page.on('pageerror', (error) => problems.push(String(error)));

let count = 0;

/** Waits for the state that the product shows, and takes pictures of it, light and dark. */
async function shows(state, name, timeout) {
  await page.locator(`.integration[data-state=${state}]`).waitFor({ timeout });
  count += 1;
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(directory, `${count}-${name}-${colorScheme}.png`), fullPage: true });
  }
  await page.emulateMedia({ colorScheme: 'light' });
  console.log(`${name}: ok`);
}

/** The consent on the sandbox's page, which evergreen's link leads to. */
async function consent(button) {
  await page.getByRole('button', { name: button, exact: true }).click();
  await page.locator(`.card:has(input[name=locationId][value="${locationId}"]) button`).waitFor();
  count += 1;
  await page.screenshot({ path: join(directory, `${count}-consent-light.png`) });
  await page.locator(`.card:has(input[name=locationId][value="${locationId}"]) button`).click();
  await page.waitForURL(`${product}/**`);
}

async function addContact(name) {
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Email').fill(`${name.toLowerCase()}@example.com`);
  await page.getByRole('button', { name: 'Add' }).click();
  await page.getByText(`${name.toLowerCase()}@example.com`).waitFor();
}

async function hasEvent(type) {
  await page.getByText(`installation.${type}`, { exact: true }).first().waitFor();
}

try {
  await page.goto(product);
  await shows('new', 'not-connected');

  await consent('Connect');
  await shows('connected', 'connected');
  await hasEvent('connected');
  await addContact('Nora');
  await shows('connected', 'with-a-contact');

  const body = { locationId };
  await page.request.post(`${sandbox}/_sandbox/revoke`, { data: body, failOnStatusCode: true });
  // A call of the product makes evergreen try the token.
  await page.reload();
  await shows('needs_consent', 'needs-consent', UNTIL_REFUSED);
  await hasEvent('needs_consent');

  await consent('Reconnect');
  await shows('connected', 'reconnected');
  await addContact('Ines');
  await page.getByText('nora@example.com').waitFor();
  await shows('connected', 'with-another-contact');
  if (problems.length > 0) throw new Error(problems.join('\n'));
} catch (error) {
  process.exitCode = 1;
  console.error(error, problems, page.url());
  // This fails, too, if the browser has crashed.
  await page.screenshot({ path: join(directory, 'failed.png'), fullPage: true }).catch(console.error);
} finally {
  await browser.close();
}
