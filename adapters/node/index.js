'use strict';

const { SessionStorage } = require('@gohighlevel/api-client');

// Shorter than the time by which evergreen refreshes a token before it expires.
const KEEP_MS = 30_000;

const parsed = (body) => { try { return JSON.parse(body); } catch { return body; } };

class EvergreenSessionStorage extends SessionStorage {
  #kept = new Map(); // The id of a location or company: { session: a promise, until: in ms since 1970 }
  #url;
  #headers;

  constructor({ url, key, app }) {
    super();
    if (!url || !key) throw new TypeError('EvergreenSessionStorage needs url and key');
    this.#url = url.replace(/\/+$/, '');
    this.#headers = { Authorization: `Bearer ${key}`, ...(app && { 'X-Evergreen-App': app }) };
  }

  /** After a 401 the SDK asks evergreen for a newer token, instead of refreshing at GHL, and repeats the call. */
  attach(ghl) {
    const locate = ghl.extractResourceId;
    if (!locate || !ghl.performTokenRefresh) throw new Error('unknown version of @gohighlevel/api-client');
    ghl.performTokenRefresh = (id, session) => this.#newerThan(id, session);
    // After a 401 the SDK has its JSON body as text, in which it cannot find the location.
    ghl.extractResourceId = (needs, headers, query, body, kind) =>
      locate.call(ghl, needs, headers, query, parsed(body), kind);
    return ghl;
  }

  async getSession(id) {
    const kept = this.#kept.get(id);
    return kept && Date.now() < kept.until ? kept.session : this.#ask(id);
  }

  async getAccessToken(id) { return (await this.getSession(id)).access_token; }
  async getRefreshToken() { return null; }
  async deleteSession(id) { this.#kept.delete(id); }

  async setSession() {
    throw new Error('evergreen keeps the tokens: let customers connect there, and do not call setSession');
  }

  setClientId() {}
  async init() {}
  async disconnect() {}
  async createCollection() {}
  async getCollection() {}

  async #newerThan(id, refused) {
    // evergreen does not see GHL's answers. It refreshes at once if this token is still the current one.
    const session = await this.#ask(id, `?refused=${refused.generation}`);
    return session.access_token === refused.access_token ? null : `Bearer ${session.access_token}`;
  }

  #ask(id, query = '') {
    const kept = { session: this.#fetch(id, query), until: Infinity };
    this.#kept.set(id, kept);
    const keep = ({ expires_in = Infinity }) => (kept.until = Date.now() + Math.min(KEEP_MS, expires_in * 500));
    kept.session.then(keep, () => (kept.until = 0));
    return kept.session;
  }

  /** A session without `refresh_token` and `expire_at`, so that the SDK never refreshes. */
  async #fetch(id, query) {
    const url = `${this.#url}/v1/installations/${encodeURIComponent(id)}/token${query}`;
    const answer = await fetch(url, { headers: this.#headers, signal: AbortSignal.timeout(30_000) });
    const body = await answer.json();
    if (!answer.ok) throw new Error(`evergreen: ${body.message} (${body.code}). ${body.hint ?? ''}`);
    const { scopes: scope, user_type: userType, location_id: locationId, company_id: companyId } = body;
    return { ...body, scope, userType, locationId, companyId };
  }
}

module.exports = { EvergreenSessionStorage };
