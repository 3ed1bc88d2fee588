// How the page is connected: the documents of the handshake, and the board.

const MEANINGS = [
  [/<Port>/, 'in', 'The portal reserves a seat for you, for two seconds.'],
  [/<HandshakePasscode>/, 'out', 'The page sends the passcode.'],
  [/Connection successful/, 'in', 'The worker admits you. The passcode can’t be used again.'],
  [/Wrong handshake passcode/, 'in', 'The passcode was wrong. Each passcode allows only one try.'],
  [/<command>FULL/, 'in', 'No seat is free. The page retries every 2 s.'],
];

function showStep(way, text) {
  const found = MEANINGS.find(([pattern, there]) => there === way && pattern.test(text));
  if (!found) return;
  // A ticket is the first document of a new connection.
  if (found === MEANINGS[0]) $('steps').replaceChildren();
  const line = element('li', '', found[2]);
  line.append(element('code', '', text));
  $('steps').append(line);
  while ($('steps').children.length > 6) $('steps').firstElementChild.remove();
}

function showLook(isOpen) {
  $('look').hidden = !isOpen;
  if (isOpen) $('close-look').focus({ preventScroll: true });
}

/** Returns the address of the board, if this browser can reach it: not through a proxy, which may not lead there. */
function boardAddress() {
  if (!settings.board) return null;
  const { ip, port } = settings.board;
  const here = location.port || (location.protocol === 'https:' ? '443' : '80');
  const name = location.hostname.replace(/^\[|\]$/g, '');
  const isLoopback = (host) => host === 'localhost' || host === '::1' || /^127\./.test(host);
  const isThere = ['0.0.0.0', '::'].includes(ip) || (isLoopback(ip) && isLoopback(name)) || ip === name;
  return isThere && here === String(settings.port) ? `${location.protocol}//${location.hostname}:${port}/` : null;
}
