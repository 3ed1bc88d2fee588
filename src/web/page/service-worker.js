// Shows notifications where pages can't, and a plain notice without a connection. It keeps no copy of
// the page: the server's own answer is always the current one.

const NOTICE = `<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>Chat is offline</title><style>body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 20vh auto; padding: 0 1rem }</style>
<h1>The chat can’t be reached</h1><p>This device is offline, or the server is not running.</p>
<p><a href="">Try again</a></p></html>`;

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  if (event.request.mode !== 'navigate') return;
  const headers = {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
  };
  event.respondWith(fetch(event.request).catch(() => new Response(NOTICE, { status: 503, headers })));
});
self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  const open = async () => {
    const [page] = await self.clients.matchAll({ type: 'window' });
    if (!page) {
      await self.clients.openWindow('./');
      return;
    }
    await page.focus();
    page.postMessage({ open: event.notification.data });
  };
  event.waitUntil(open());
});
