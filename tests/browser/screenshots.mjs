// Takes the screenshots of the console for the manual. tools/screenshots starts it:
// CONSOLE_KEY=evg_… node screenshots.mjs <console's URL> <gateway's URL> <sandbox's URL> <directory>

import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { seed } from './fleet.mjs';
import { CONTEXT, PHONE } from './inspect.mjs';

const [internal, gateway, sandbox, directory] = process.argv.slice(2);
const { CONSOLE_KEY: key, CHROMIUM: executablePath = '/usr/bin/chromium' } = process.env;
const fleet = await seed({ internal, public: gateway, sandbox, key });

const browser = await chromium.launch({ executablePath });
const context = await browser.newContext(CONTEXT);
const page = await context.newPage();

/** Pictures of the page that is shown, for each shape. */
async function take(name, { isForPhones = false, height = CONTEXT.viewport.height } = {}) {
  await page.setViewportSize({ ...CONTEXT.viewport, height });
  const shoot = (shape) => page.screenshot({ path: join(directory, `console-${name}-${shape}.png`) });
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await shoot(colorScheme);
  }
  await page.emulateMedia({ colorScheme: 'light' });
  if (!isForPhones) return;
  await page.setViewportSize(PHONE);
  await shoot('mobile');
}

async function idOf(name) {
  const headers = { authorization: `Bearer ${key}` };
  const response = await fetch(`${internal}/v1/installations/${name}`, { headers });
  return (await response.json()).installationId;
}

try {
  await page.goto(`${internal}/console`);
  await take('sign-in');
  await page.getByLabel('Key').fill(key);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation', { name: 'Console' }).waitFor();
  for (const [name, path, options] of [
    // With the charts.
    ['overview', '', { isForPhones: true, height: 1300 }],
    ['installations', '/installations', { isForPhones: true }],
    ['installation', `/installations/${await idOf(fleet.working)}`],
    ['needs-consent', `/installations/${await idOf(fleet.broken)}`, { isForPhones: true }],
    ['agency', `/installations/${await idOf(fleet.agency)}`],
    ['connect', '/connect'],
    ['apps', '/apps'],
    ['keys', '/keys'],
    ['new-key', '/keys/new'],
    ['events', '/events'],
    ['audit', '/audit', { isForPhones: true }],
  ]) {
    const response = await page.goto(`${internal}/console${path}`);
    if (response.status() !== 200) throw new Error(`${name}: ${response.status()}`);
    await take(name, options);
  }
} finally {
  await browser.close();
}
