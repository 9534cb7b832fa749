// A Node.js service whose variants leak or not in known ways; see lab/services.toml.
//
//     node server.js --port 8080 --variant token-cache
'use strict';

const { createHmac } = require('node:crypto');
const { createServer } = require('node:http');

const SECRET = 'heaptide-lab-hs256-secret'; // the load generator signs with it

function argument(name, otherwise) {
  const at = process.argv.indexOf(name);
  return at < 0 ? otherwise : process.argv[at + 1];
}

const variant = argument('--variant', 'stateless');

// ---- tokens -----------------------------------------------------------------------------------

function bearer(request) {
  const value = request.headers.authorization ?? '';
  return value.startsWith('Bearer ') ? value.slice('Bearer '.length) : null;
}

// Checks a token and returns its claims; null if it is not valid.
function decode(token) {
  const [header, payload, signature] = (token ?? '').split('.');
  if (signature === undefined) return null;
  const expected = createHmac('sha256', SECRET).update(`${header}.${payload}`).digest('base64url');
  return expected === signature ? JSON.parse(Buffer.from(payload, 'base64url').toString()) : null;
}

// ---- what the variants keep -------------------------------------------------------------------

const cache = new Map();
const log = [];
const samples = [];

// Decoding is slow, so it is done once per token.
function claimsFor(token) {
  let claims = cache.get(token);
  if (claims === undefined) {
    claims = decode(token);
    if (claims !== null) cache.set(token, claims);
  }
  return claims;
}

// The oldest entry beyond `most` is evicted.
function boundedClaimsFor(token, most) {
  const claims = claimsFor(token);
  if (cache.size > most) cache.delete(cache.keys().next().value);
  return claims;
}

// Fills the cache with tokens of earlier users.
function fillCache(entries) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const header = encode({ typ: 'JWT', alg: 'HS256' });
  for (let number = 0; number < entries; number++) {
    const sub = `earlier-${String(number).padStart(8, '0')}`;
    const claims = { sub, iss: 'https://identity.lab.example', email: `${sub}@lab.example`, exp: 4102444800 };
    const signed = `${header}.${encode(claims)}`;
    const signature = createHmac('sha256', SECRET).update(signed).digest('base64url');
    cache.set(Buffer.from(`${signed}.${signature}`).toString('latin1'), claims);
  }
}

// Debugging code that was never removed.
function logResponse(claims, data) {
  log.push(JSON.stringify({ active: true, claims, data }));
}

if (variant === 'lru-5000-full') fillCache(5000);

if (variant === 'background') {
  setInterval(() => samples.push({ at: Date.now(), values: new Float64Array(256) }), 10);
}

// ---- routes -----------------------------------------------------------------------------------

const requests = {};
let distinct = 0;
const bits = new Uint8Array(1 << 19); // fixed: these counts must not grow

function count(route, token) {
  requests[route] = (requests[route] ?? 0) + 1;
  if (token === null) return;
  const place = createHmac('sha256', '').update(token).digest().readUInt32LE(0) & (8 * bits.length - 1);
  if ((bits[place >> 3] & (1 << (place & 7))) === 0) {
    bits[place >> 3] |= 1 << (place & 7);
    distinct += 1;
  }
}

function claimsOf(token) {
  if (variant === 'token-cache' || variant === 'big-claims') return claimsFor(token);
  if (variant === 'lru-1024') return boundedClaimsFor(token, 1024);
  if (variant === 'lru-5000-full') return boundedClaimsFor(token, 5000);
  return decode(token);
}

function getData(token) {
  const claims = claimsOf(token);
  if (claims === null) return [401, {}];
  const items = Array.from({ length: 8 }, (_, id) => ({ id, name: `item ${id} of ${claims.sub}` }));
  const data = { user: claims.sub, items };
  if (variant === 'introspection-log') logResponse(claims, data);
  return [200, data];
}

function getProfile(token) {
  const claims = decode(token);
  return claims === null ? [401, {}] : [200, { sub: claims.sub, email: claims.email }];
}

function truth() {
  const entries = cache.size + log.length + samples.length;
  const total = Object.values(requests).reduce((sum, n) => sum + n, 0);
  return [200, { variant, entries, distinct_tokens: distinct, requests, total_requests: total }];
}

const ROUTES = [
  ['GET', /^\/api\/data$/, 'GET /api/data', getData],
  ['GET', /^\/api\/profile$/, 'GET /api/profile', getProfile],
  ['POST', /^\/api\/upload$/, 'POST /api/upload', (_, body) => [201, { bytes: body.length }]],
  ['GET', /^\/health$/, 'GET /health', () => [200, 'ok']],
  ['GET', /^\/users\/\d+$/, 'GET /users/{id}', () => [200, { name: 'a user' }]],
];

const server = createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const answer = (status, body) => {
      const text = JSON.stringify(body);
      const length = Buffer.byteLength(text); // the load generator does not read chunked bodies
      response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': length });
      response.end(text);
    };
    if (request.url === '/truth') return answer(...truth());
    const found = ROUTES.find(([method, path]) => method === request.method && path.test(request.url));
    if (found === undefined) return answer(404, {});
    const token = bearer(request);
    count(found[2], token);
    return answer(...found[3](token, Buffer.concat(chunks)));
  });
});
server.listen(Number(argument('--port', '8080')), '127.0.0.1');
