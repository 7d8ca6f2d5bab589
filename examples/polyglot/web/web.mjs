// The shop's window, in Node.js without a package. It knows nothing of certificates, versions or retries: the proxy beside it
// does. HTTP_PROXY is where that proxy takes this service's calls, SOCKET where this service takes those that it lets in.
//
//   GET /products/{id}   from shoppers; asks stock (Go)
//   GET /campaign        from prices (Python)
//   GET /peek/{id}       asks prices itself, which it may not

import http from 'node:http';

const proxy = new URL(process.env.HTTP_PROXY);
const agent = new http.Agent({ keepAlive: true });

// What goes on with the calls that a request leads to, as Istio asks of applications.
const FORWARDED = ['traceparent', 'tracestate', 'x-request-id', 'x-canary', 'x-drill'];

// A GET by way of the proxy, which goes by Host. Node's http has no setting for proxies, and needs none.
function get(host, path, incoming) {
  const headers = { host };
  for (const name of FORWARDED) if (incoming.headers[name]) headers[name] = incoming.headers[name];
  return new Promise((resolve, reject) => {
    const request = http.request({ agent, host: proxy.hostname, port: proxy.port, path, headers }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode, text: Buffer.concat(chunks).toString() }));
    });
    request.setTimeout(15_000, () => request.destroy(new Error(`${host} did not respond in time`)));
    request.on('error', reject);
    request.end();
  });
}

// How a request came: the proxy has put the caller's certificate into X-Forwarded-Client-Cert, itself, last.
function seen(request) {
  const [, caller = ''] = [...(request.headers['x-forwarded-client-cert'] ?? '').matchAll(/URI=([^;,]*)/g)].at(-1) ?? [];
  const [, trace = ''] = (request.headers.traceparent ?? '').split('-');
  const attempt = request.headers['x-envoy-attempt-count'] ?? '';
  return { service: 'web', language: 'Node.js', path: request.url, caller, trace, attempt };
}

async function serve(request) {
  const [, what, id = ''] = request.url.split('/');
  if (request.method !== 'GET') return [405, { error: 'only GET' }];
  if (what === 'campaign') return [200, { percent: 10, seen: [seen(request)] }];
  if (what !== 'products' && what !== 'peek') return [404, { error: `web has nothing at ${request.url}` }];
  const [host, path] = what === 'products' ? ['stock:8080', `/stock/${id}`] : ['prices:8080', `/prices/${id}`];
  const { status, text } = await get(host, path, request);
  if (status !== 200) return [status, { error: `${host} responded with ${status}: ${text}` }];
  const found = JSON.parse(text);
  return [200, { ...found, seen: [seen(request), ...found.seen] }];
}

const server = http.createServer((request, response) => {
  serve(request)
    .catch((error) => [502, { error: String(error) }])
    .then(([status, body]) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify(body));
    });
});

server.listen(process.env.SOCKET);
process.on('SIGTERM', () => {
  server.close(() => process.exit());
  server.closeIdleConnections();
});
