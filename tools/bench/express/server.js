'use strict';

// A typical backend: it keeps tokens in memory, checks the expiry before each call, makes the call, and returns
// its response as JSON.

const axios = require('axios');
const express = require('express');

const { PORT, UPSTREAM, TOKEN } = process.env;
const LIFETIME_MS = 24 * 60 * 60 * 1000;
const FLOOR_MS = 5 * 60 * 1000;

const tokens = new Map();

// A refresh is simulated at no cost.
async function accessToken(installationId) {
  const held = tokens.get(installationId);
  if (held && held.expiresAt - Date.now() > FLOOR_MS) {
    return held.accessToken;
  }
  const fresh = { accessToken: TOKEN, expiresAt: Date.now() + LIFETIME_MS };
  tokens.set(installationId, fresh);
  return fresh.accessToken;
}

const app = express();
app.use(express.json());
app.use(express.raw({ limit: '30mb' }));

app.use('/ghl', async (request, response, next) => {
  try {
    const token = await accessToken(request.get('X-Installation-Id'));
    const answer = await axios({
      method: request.method,
      url: UPSTREAM + request.url,
      data: request.body,
      headers: {
        Authorization: `Bearer ${token}`,
        Version: request.get('Version'),
        'Content-Type': request.get('Content-Type'),
      },
    });
    response.set('X-Upstream-Protocol', answer.headers['x-upstream-protocol']);
    response.status(answer.status).json(answer.data);
  } catch (error) {
    next(error);
  }
});

app.listen(Number(PORT), '127.0.0.1');
