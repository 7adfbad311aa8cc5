// An OAuth 2 server that others wrote, and a small API that takes its tokens: both on one port of loopback.
// Arguments: port, public key (PEM) of who signs statements, folder for the first refresh token.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [port, signer, folder] = process.argv.slice(2);
// The packages are where tests/run has put them, which is the working folder.
const find = createRequire(join(process.cwd(), 'here.js'));
const load = (name) => import(pathToFileURL(find.resolve(name)));
const { default: Provider, errors } = await load('oidc-provider');
const { importSPKI, jwtVerify } = await load('jose');

const issuer = `http://127.0.0.1:${port}`;
const grants = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const client = (client_id, more) => ({
  client_id, client_secret: 's e+c/r:e%t', redirect_uris: [], response_types: [], ...more,
});
const provider = new Provider(issuer, {
  clients: [
    client('robot one', { grant_types: ['client_credentials'] }),
    client('poster', { grant_types: ['client_credentials'], token_endpoint_auth_method: 'client_secret_post' }),
    client('somebody', {
      grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
      redirect_uris: ['https://app.example.org/back'],
    }),
    client('signer', { grant_types: [grants], token_endpoint_auth_method: 'none', client_secret: undefined }),
  ],
  features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
  scopes: ['openid', 'offline_access', 'read'],
  rotateRefreshToken: true,
  ttl: { AccessToken: 600, ClientCredentials: 600, Grant: 6000, RefreshToken: 6000 },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});

const key = await importSPKI(readFileSync(signer, 'utf8'), 'RS256');
const seen = new Set();
provider.registerGrantType(grants, async (ctx) => {
  const { payload } = await jwtVerify(ctx.oidc.params.assertion, key, {
    issuer: 'robot@example.org', audience: `${issuer}/token`, requiredClaims: ['jti', 'exp', 'iat'],
  }).catch((error) => { throw new errors.InvalidGrant(error.message); });
  if (seen.has(payload.jti)) throw new errors.InvalidGrant('seen before');
  seen.add(payload.jti);
  const token = new provider.ClientCredentials({ client: ctx.oidc.client, scope: payload.scope });
  const access_token = await token.save();
  ctx.body = { access_token, expires_in: token.expiration, token_type: 'Bearer' };
}, ['assertion', 'scope']);

const grant = new provider.Grant({ accountId: 'me', clientId: 'somebody' });
grant.addOIDCScope('openid offline_access');
const first = new provider.RefreshToken({
  client: await provider.Client.find('somebody'), accountId: 'me', grantId: await grant.save(),
  scope: 'openid offline_access', gty: 'authorization_code',
});
writeFileSync(join(folder, 'first'), await first.save());

let pages = 0;
const oauth = provider.callback();
createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname !== '/items') return oauth(request, response);
  const carried = (request.headers.authorization ?? '').replace(/^Bearer /, '');
  const token = await provider.AccessToken.find(carried) ?? await provider.ClientCredentials.find(carried);
  if (!token?.isValid) {
    response.writeHead(401, { 'www-authenticate': 'Bearer error="invalid_token"' });
    return response.end('{}');
  }
  pages += 1;
  // Now and then a token is taken back.
  if (pages % 20 === 0) await token.destroy();
  const page = Number(url.searchParams.get('page'));
  const items = Array.from({ length: 5 }, (_, n) => ({ id: (page - 1) * 5 + n + 1, by: token.clientId }));
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify({ total: 200, items }));
}).listen(Number(port), '127.0.0.1');
