// Explanations of events and of the bytes in socket calls, for the story of a visit.
'use strict';

const MEANINGS = {
  'started': 'The server has bound its listeners, and all ports are on the stack.',
  'listening': 'A listener is bound; a thread will block in its accept (rule 1).',
  'ports-busy': 'The ports of these workers can\'t be bound yet; the server runs without their seats.',
  'port-ready': 'A busy port is free again: its worker is listening, and the port is on the stack.',
  'ticket': 'The portal took the port off the workload stack, reserved the seat and sent the client the port and its passcode (rules 2 and 5a).',
  'ticket-resent': 'The same client asked again; it gets the same port, not a second one.',
  'full': 'No port is left on the stack: SERVER>>> FULL. The client sleeps two seconds and asks again (rule 7).',
  'no-show': 'The client did not connect within the reservation timeout: the passcode changes, and the port goes back on the stack (rule 4).',
  'arrived': 'The expected client has connected; now it has one chance to send the passcode (rules 3 and 5b).',
  'tls-established': 'The TLS handshake is complete; the timeout for the passcode restarts.',
  'http-refused': 'The server refused a browser\'s request; the reason includes the fix.',
  'tls-failed': 'The TLS handshake failed, or only one side uses TLS.',
  'calling': 'The client requested a callback: the worker connects to the client\'s port.',
  'unexpected-connection': 'A client that the portal did not send here was rejected; a reservation is not affected (rule 5).',
  'wrong-passcode': 'The first frame was not the passcode: each client has only one chance (rule 5c).',
  'seated': 'The passcode was right and can\'t be used again.',
  'activity': 'The client was active, so its idle timeout restarts (rule 6).',
  'relayed': 'The thread that read the message wrote it into the partner\'s socket.',
  'no-partner': 'The message had no recipient: NO PARTNER.',
  'registered': 'A new account was saved to disk.',
  'logged-in': 'The client has logged in with a name.',
  'password-wrong': 'The password was wrong.',
  'token-wrong': 'The session token was not valid.',
  'logged-out': 'The client logged out.',
  'public': 'The message was written into the sockets of all recipients.',
  'direct': 'The message was written into the recipient\'s socket.',
  'no-such-user': 'No client has that name.',
  'room-opened': 'The first JOIN created the room, with its own thread and port.',
  'room-ended': 'The last member has left, and the room\'s port is free.',
  'kicked': 'The operator or a moderator disconnected the client; it can\'t reconnect for a minute.',
  'banned': 'The operator or a moderator banned a name or a network.',
  'unbanned': 'A ban was lifted.',
  'muted': 'The operator or a moderator muted a user.',
  'unmuted': 'A mute was lifted.',
  'reported': 'A user reported another user to the operator and the moderators.',
  'rejected': 'The client is banned, and was sent the reason and the ban\'s end.',
  'refused': 'The server refused the request and sent the client the reason.',
  'closed': 'The session is over.',
  'seat-free': 'The passcode has changed, and the port is back on the stack (rule 5d).',
  'tick': 'The clock advanced, and the tick was sent to the threads waiting for it (rule 8).',
  'panicked': 'A thread panicked while serving one client; it continues with the next.',
  'lines-missing': 'Some events arrived too fast to show, or could not be written. The board may be wrong for a while.',
  'shutting-down': 'The server notifies all clients and joins all threads.',
};

const ENDS = {
  'terminate': 'The client sent TERMINATE (rule 9).',
  'idle-timeout': 'The client was idle for too long: SERVER>>> IDLE TIMEOUT (rule 6).',
  'total-time-timeout': 'The client reached the maximum connection time: SERVER>>> TOTAL TIME TIMEOUT (rule 6).',
  'handshake-timeout': 'The client did not send the passcode in time.',
  'wrong-passcode': 'The client had only one chance; it must ask the portal again (rule 5c).',
  'gone': 'The client closed the connection without sending TERMINATE.',
  'broken': 'The connection was reset.',
};

const FRAMES = [
  [/<Port>.*<HandshakePasscode>/, 'the portal\'s answer: a port and its passcode'],
  [/<HandshakePasscode>/, 'the passcode'],
  [/Connection successful/, 'the client is admitted'],
  [/Wrong handshake passcode/, 'the client is rejected'],
  [/<command>FULL/, 'no port is free'],
  [/<command>TERMINATE/, 'the client leaves'],
  [/<command>IDLE TIMEOUT/, 'idle for too long'],
  [/<command>TOTAL TIME TIMEOUT/, 'connected for too long'],
  [/<command>(PARTNER|NO PARTNER)/, 'a change of partner'],
  [/<command>LOGIN/, 'the client claims a name'],
  [/<command>PASSWORD/, 'a request for a password, or the password'],
  [/<command>WELCOME/, 'the client has the name'],
  [/<command>SENT/, 'the number of recipients'],
  [/<command>PING|<command>PONG/, 'a test of the connection'],
  [/<command>/, 'a command'],
  [/<error /, 'a refusal, with the reason'],
  [/<notice>/, 'a notice from the server'],
  [/from=.*<message>/, 'a message, with its sender'],
  [/<message>/, 'a message'],
];

function details(event) {
  const parts = [];
  for (const [name, value] of Object.entries(event.details)) {
    // The bytes of a call are shown separately. For a message, `bytes` is a number.
    if (typeof value === 'string' && name === 'bytes') continue;
    parts.push(name + ' ' + (name === 'passcode' ? shortened(value) : value));
  }
  return parts.join('  ');
}

/**
 * Splits an event's bytes into frames with their meanings. A line without a line feed is a part of
 * a frame. A WebSocket frame has a length instead of a visible end.
 */
function frames(event) {
  const inner = event.details.bytes.replace(/^"/, '').replace(/"( and \d+ more)?$/, '');
  const isWebSocket = event.web || event.event === 'frame';
  const pieces = isWebSocket ? inner.split(/(?<=<\/(?:CLIENT|SERVER)>)/) : inner.split(/(?<=\\n)/);
  return pieces.filter(Boolean).map((text) => {
    const whole = isWebSocket || text.endsWith('\\n');
    const known = FRAMES.find(([pattern]) => pattern.test(text));
    const meaning = (known ? known[1] : 'bytes') + (whole ? '' : ' (incomplete frame)');
    return { text, whole, meaning };
  });
}

/** Creates one step of a story. */
function step(event, isChosen) {
  const item = element('li', isChosen ? 'chosen' : '');
  const head = element('p', 'head', event.event + ' ');
  head.append(element('span', 'mono', 'tick ' + event.tick + '  ' + event.thread));
  item.append(head);
  const said = details(event);
  if (said) item.append(element('p', 'mono', said));
  if (isCall(event) && event.details.bytes) {
    for (const frame of frames(event)) {
      item.append(element('code', frame.whole ? 'frame' : 'frame part', frame.text));
      item.append(element('p', 'why', frame.meaning));
    }
  }
  const why = (event.event === 'closed' && of(ENDS, event.details.end)) || of(MEANINGS, event.event);
  if (why) item.append(element('p', 'why', why));
  return item;
}
