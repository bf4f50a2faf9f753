// Checks of a page of the console in a real Chromium: what every page must hold in light, dark and on a phone.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import axe from 'axe-core';

const DESKTOP = { width: 1200, height: 800 };
/** A phone in portrait. */
export const PHONE = { width: 390, height: 844 };
const SHAPES = [
  { name: 'light', colorScheme: 'light', viewport: DESKTOP },
  { name: 'dark', colorScheme: 'dark', viewport: DESKTOP },
  { name: 'mobile', colorScheme: 'light', viewport: PHONE },
  { name: 'mobile-dark', colorScheme: 'dark', viewport: PHONE },
];

/** How a browser is set up, so that pictures of two runs are the same. */
export const CONTEXT = {
  viewport: DESKTOP,
  deviceScaleFactor: 1,
  locale: 'en-GB',
  timezoneId: 'UTC',
  reducedMotion: 'reduce',
};

/**
 * The problems of the pages of a context, collected in `problems`: errors of scripts and of the console, violations of
 * the policy (CSP), and requests to another origin than these.
 */
export async function watch(context, problems, origins) {
  context.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== 'data:' && !origins.includes(origin)) problems.push(`a request to ${request.url()}`);
  });
  context.on('weberror', (error) => problems.push(String(error.error())));
  context.on('console', (message) => {
    const { url } = message.location();
    // A browser reports an answer such as 404 of the page itself as an error. Steps that expect one check it.
    const isAnswer = message.text().includes('Failed to load resource') && url === message.page()?.url();
    if (message.type() === 'error' && !isAnswer) problems.push(`${message.text()} (${url})`);
  });
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
    });
  });
}

/** Elements that are wider than the page, for the message. */
function tooWide() {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const isWide = (element) => element.getBoundingClientRect().right > width + 1;
  const wide = [...document.body.querySelectorAll('*')].filter(isWide);
  return [`${document.documentElement.scrollWidth} px wide`, ...wide.slice(-3).map((it) => it.outerHTML.slice(0, 120))];
}

async function findsNothingSerious(page, what) {
  await page.evaluate(`${axe.source};0`);
  // Without `preload`, because it would load stylesheets by script.
  const { violations } = await page.evaluate(() => window.axe.run(document, { preload: false }));
  const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  const shown = serious.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((it) => `${it.html} ${it.failureSummary}`).join('; ')}`);
  if (shown.length > 0) throw new Error(`${what}: axe finds ${shown.join('\n')}`);
}

/** Lets the next Tab go to the first element. */
async function startOfPage(page) {
  await page.evaluate(() => {
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute('tabindex');
    window.scrollTo(0, 0);
  });
}

/** Walks through a page with the Tab key: the skip link comes first and works, and each focus is visible. */
async function worksByKeyboard(page, what) {
  await startOfPage(page);
  await page.keyboard.press('Tab');
  const skip = page.locator('a.skip');
  const isFirst = await skip.evaluate((it) => it === document.activeElement && it.getBoundingClientRect().left >= 0);
  if (!isFirst) throw new Error(`${what}: the skip link is not the first`);
  for (let count = 0; count < 40; count += 1) {
    await page.keyboard.press('Tab');
    const { isEnd, isVisible, html } = await page.evaluate(() => {
      const element = document.activeElement;
      if (!element || element === document.body) return { isEnd: true };
      const { outlineStyle, outlineWidth } = getComputedStyle(element);
      // A list can be higher than the window.
      const { width, height, left, top, bottom } = element.getBoundingClientRect();
      const isOnPage = width > 0 && height > 0 && left >= 0 && bottom > 0 && top < window.innerHeight;
      const isVisible = isOnPage && outlineStyle !== 'none' && parseFloat(outlineWidth) > 0;
      return { isVisible, html: element.outerHTML.slice(0, 160) };
    });
    if (isEnd) break;
    if (!isVisible) throw new Error(`${what}: nobody sees that this has the focus: ${html}`);
  }
  await startOfPage(page);
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  const target = await page.evaluate(() => document.activeElement?.id);
  if (target !== 'main') throw new Error(`${what}: the skip link leads to ${target}`);
}

/**
 * Checks a page in all shapes, and takes pictures of it: `<directory>/<name>-light.png` and so on. `hasFrame`: it has the
 * navigation, and so a skip link.
 */
export async function inspect(page, name, directory, { hasFrame = true } = {}) {
  mkdirSync(directory, { recursive: true });
  for (const { name: shape, colorScheme, viewport } of SHAPES) {
    const what = `${name}, ${shape}`;
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme });
    await page.screenshot({ path: join(directory, `${name}-${shape}.png`), fullPage: true });
    const wide = await page.evaluate(tooWide);
    if (wide.length > 0) throw new Error(`${what}: it scrolls sideways: ${wide.join('\n')}`);
    await findsNothingSerious(page, what);
  }
  await page.setViewportSize(DESKTOP);
  await page.emulateMedia({ colorScheme: 'light' });
  if (hasFrame) await worksByKeyboard(page, name);
  const title = await page.title();
  if (!/^.+ · evergreen$/.test(title)) throw new Error(`${name}: the title is ${title}`);
  console.log(`${name}: ok`);
}
