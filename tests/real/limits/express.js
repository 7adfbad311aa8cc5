// A paged listing behind express-rate-limit.
//
//   node express.js PORT LOG LIMIT WINDOW_MS none|draft-6|draft-7|draft-8
//
// Writes a line a request to LOG: seconds since 1970 at its arrival, status, Retry-After or "-".
'use strict';

const fs = require('node:fs');
const express = require('express');
const { rateLimit } = require('express-rate-limit');

const [port, log, limit, windowMs, draft] = process.argv.slice(2);
const TOTAL = 350;

const app = express();
app.use((request, response, next) => {
  const at = Date.now() / 1000;
  response.on('finish', () => {
    fs.appendFileSync(log, `${at} ${response.statusCode} ${response.get('retry-after') ?? '-'}\n`);
  });
  next();
});
app.use(
  rateLimit({
    limit: Number(limit),
    windowMs: Number(windowMs),
    standardHeaders: draft === 'none' ? false : draft,
    legacyHeaders: false,
  }),
);
app.get('/items', (request, response) => {
  const size = Number(request.query.per_page);
  const from = (Number(request.query.page) - 1) * size;
  const items = [];
  for (let id = from; id < Math.min(from + size, TOTAL); id += 1) {
    items.push({ id, name: `item ${id}` });
  }
  response.json({ total: TOTAL, items });
});
app.listen(Number(port), '127.0.0.1');
