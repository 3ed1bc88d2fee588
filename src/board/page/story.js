// What an event means, and what the bytes of a call are: words for a story.
'use strict';

const MEANINGS = {
  'started': 'The server has bound its listeners, and all ports lie on the stack.',
  'listening': 'A listener is bound; a thread will block in its accept (rule 1).',
  'ports-busy': 'These workers\' ports can\'t be bound yet; the server serves without their seats.',
  'port-ready': 'A port that was busy is free: its worker listens, and the port is on the stack.',
  'ticket': 'The portal took the port off the workload stack, reserved the seat and told the client where to go and what to say there (rules 2 and 5a).',
  'ticket-resent': 'The same asker asked again; it gets the same port, not a second one.',
  'full': 'No port is left on the stack: SERVER>>> FULL. The client sleeps two seconds and asks again (rule 7).',
  'no-show': 'Nobody came within the reservation timeout: the passcode changes and the port goes back (rule 4).',
  'arrived': 'The expected client has connected; now it has one chance to say the passcode (rules 3 and 5b).',
  'tls-established': 'Client and server speak TLS now; the time for the passcode begins anew.',
  'http-refused': 'A browser was refused; the reason says what to change.',
  'tls-failed': 'Client and server did not come to speak TLS with each other, or one of them speaks it and the other does not.',
  'calling': 'The client wants to be called: the worker connects to the port that the client listens on.',
  'unexpected-connection': 'Somebody who was not sent here is turned away; a reservation stays as it is (rule 5).',
  'wrong-passcode': 'The first thing said was not the passcode: one chance only (rule 5c).',
  'seated': 'The passcode was right. It is used up.',
  'activity': 'The client has said something, so its idle time begins anew (rule 6).',
  'relayed': 'The thread that read the message wrote it into the partner\'s socket.',
  'no-partner': 'A message had nobody to go to: NO PARTNER.',
  'registered': 'A new account is on the disk.',
  'logged-in': 'The client goes by a name now.',
  'password-wrong': 'Not the account\'s password.',
  'public': 'Written into everybody\'s socket.',
  'direct': 'Written into one person\'s socket.',
  'no-such-user': 'That name is not here.',
  'room-opened': 'The first JOIN made a room: a thread and a port of its own.',
  'room-ended': 'The last member has left; the room\'s port is free.',
  'refused': 'It could not be done, and the client was told why.',
  'closed': 'The session is over.',
  'seat-free': 'The passcode has changed and the port is back on the stack (rule 5d).',
  'tick': 'The clock moved on; those whose tick has come were told (rule 8).',
  'panicked': 'A thread panicked over one client; it goes on with the next.',
  'lines-missing': 'Events came faster than they could be shown, or could not be written. The picture may be wrong for a while.',
  'shutting-down': 'Everybody is told, and every thread is joined.',
};

const ENDS = {
  'terminate': 'The client said TERMINATE (rule 9).',
  'idle-timeout': 'Nothing was heard for the idle timeout: SERVER>>> IDLE TIMEOUT (rule 6).',
  'total-time-timeout': 'Connected for as long as anybody may be: SERVER>>> TOTAL TIME TIMEOUT (rule 6).',
  'handshake-timeout': 'Connected, but no passcode in time.',
  'wrong-passcode': 'One chance only; the client has to visit the portal again (rule 5c).',
  'gone': 'The client closed the connection without a word.',
  'broken': 'The connection broke.',
};

const FRAMES = [
  [/<Port>.*<HandshakePasscode>/, 'the portal\'s answer: where to go, and the passcode for it'],
  [/<HandshakePasscode>/, 'the passcode, said once'],
  [/Connection successful/, 'let in'],
  [/Wrong handshake passcode/, 'turned away'],
  [/<command>FULL/, 'no port is free'],
  [/<command>TERMINATE/, 'the client leaves'],
  [/<command>IDLE TIMEOUT/, 'silent for too long'],
  [/<command>TOTAL TIME TIMEOUT/, 'here for too long'],
  [/<command>(PARTNER|NO PARTNER)/, 'who sits in the next seat'],
  [/<command>LOGIN/, 'a name is claimed'],
  [/<command>PASSWORD/, 'a password is asked for, or given'],
  [/<command>WELCOME/, 'the name is theirs'],
  [/<command>SENT/, 'how many it was handed to'],
  [/<command>PING|<command>PONG/, 'are you there?'],
  [/<command>/, 'a command'],
  [/<error /, 'it can\'t be done, and why'],
  [/<notice>/, 'the server says something'],
  [/from=.*<message>/, 'a message, with who said it'],
  [/<message>/, 'a message'],
];

/** What `table` has for `word`. A word from a recording may be one that every object has, such as constructor. */
function of(table, word) {
  return Object.hasOwn(table, word) ? table[word] : undefined;
}

/** Socket calls are for the stories; among the events they would hide everything else. */
function isCall(event) {
  return ['bind', 'listen', 'accept', 'connect', 'read', 'write', 'shutdown', 'close', 'recv_from', 'send_to', 'frame'].includes(event.event);
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function details(event) {
  const parts = [];
  for (const [name, value] of Object.entries(event.details)) {
    // A call's bytes are shown apart; a message's are a number.
    if (typeof value !== 'string' || name !== 'bytes') parts.push(name + ' ' + value);
  }
  return parts.join('  ');
}

/** A number and what it counts. */
function counted(count, one, many) {
  return count + ' ' + (count === 1 ? one : many);
}

/**
 * The frames in an event's bytes, each with what it is. A line without its end is a part of a frame; a
 * WebSocket frame has a length, and no end that could be seen.
 */
function frames(event) {
  const inner = event.details.bytes.replace(/^"/, '').replace(/"( and \d+ more)?$/, '');
  const isWebSocket = event.web || event.event === 'frame';
  const pieces = isWebSocket ? inner.split(/(?<=<\/(?:CLIENT|SERVER)>)/) : inner.split(/(?<=\\n)/);
  return pieces.filter(Boolean).map((text) => {
    const whole = isWebSocket || text.endsWith('\\n');
    const known = FRAMES.find(([pattern]) => pattern.test(text));
    const meaning = (known ? known[1] : 'bytes') + (whole ? '' : ' (no end of the frame here)');
    return { text, whole, meaning };
  });
}

/** One step of a story. */
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
