// The flights: the animations of what travels between the actors at each event. A flight begins
// where its actor was before the event.
'use strict';

/** Maximum number of flights at once. A viewer could not follow more. */
const MOST_FLIGHTS = 90;

const flights = new Set();

/** Returns the position of a part's centre in the window, or `null` if the part is not visible. */
function middle(part) {
  if (!part || !part.checkVisibility()) return null;
  const box = part.getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
}

/** Moves a part along points, then removes it and calls `then`. Skips points that are not
 * visible. */
function fly(made, points, duration, then) {
  const way = points.filter(Boolean);
  const isShown = !calm.matches && !document.hidden && !$('board').hidden && flights.size < MOST_FLIGHTS && way.length > 1;
  if (!isShown) { if (then) then(); return; }
  made.classList.add('flight');
  document.body.append(made);
  // Flights stay in the window, whatever their width.
  const [wide, high] = [made.offsetWidth / 2 + 4, made.offsetHeight / 2 + 4];
  const within = (at, half, most) => Math.max(half, Math.min(most - half, at));
  const place = ([x, y]) => `translate(${within(x, wide, innerWidth)}px, ${within(y, high, innerHeight)}px) translate(-50%, -50%)`;
  const frames = way.map((point) => ({ transform: place(point), easing: 'ease-in-out' }));
  const moving = made.animate(frames, { duration: duration / Math.max(1, timeline.speed), fill: 'both' });
  const flight = { moving, made };
  flights.add(flight);
  const land = () => { flights.delete(flight); made.remove(); };
  moving.onfinish = () => { land(); if (then) then(); };
  moving.oncancel = land;
}

/** Ends all flights immediately. */
function landAll() {
  for (const { moving } of [...flights]) moving.cancel();
  $('street').replaceChildren();
}

/** Pauses or resumes all flights. */
function holdAll(isHeld) {
  for (const { moving } of flights) {
    if (isHeld) moving.pause();
    else moving.play();
  }
}

/** Marks a thread that has just done something. */
function flash(name) {
  if (calm.matches || document.hidden || !name) return;
  for (const part of document.querySelectorAll(`[data-thread="${CSS.escape(name)}"]`)) {
    part.animate([{ backgroundColor: 'var(--glow)' }, { backgroundColor: 'var(--glow)', offset: 0.5 }, {}], 1100);
  }
}

/** Briefly shows that a thread has returned from a socket call, and whose socket it was. */
function showCall(event) {
  if (!['read', 'write', 'accept', 'connect'].includes(event.event) || calm.matches || document.hidden) return;
  for (const part of document.querySelectorAll(`.thread[data-thread="${CSS.escape(event.thread)}"]`)) {
    const isOwn = event.seat === null || seatServedBy(event.thread) === event.seat || part.closest('#machine');
    const isShort = isOwn || event.event !== 'write' || state.cards.size > 8;
    const shown = isShort ? event.event : 'write to ' + event.seat;
    part.dataset.now = shown;
    setTimeout(() => { if (part.dataset.now === shown) delete part.dataset.now; }, 900);
  }
}

// --- where the actors are

const partsOf = (seat) => {
  const place = $('place-' + seat);
  if (!place) return {};
  const [card, client] = [place.firstChild, place.lastChild];
  const [socket, timer, passcode] = ['.socket', '.timer', '.passcode'].map((part) => card.querySelector(part));
  return { card, client, socket, timer, passcode, face: client.querySelector('.face') };
};
const faceOf = (seat) => middle(partsOf(seat).face);
const socketOf = (seat) => middle(partsOf(seat).socket);
const cardOf = (seat) => middle(partsOf(seat).card);
const roomOf = (name) => middle([...$('rooms').children].find((there) => there.dataset.room === String(name).toLowerCase()));
const stackTop = () => middle($('stack').firstElementChild) || middle($('stack'));
const entranceOf = (event) => (event.web && !$('web').hidden ? $('web') : $('portal'));

/** Adds a client at the portal. Removes the oldest one if there are more than three. */
function inTheStreet(event, words, kind) {
  const item = element('li', 'asker ' + (kind || ''));
  item.append(element('i', 'face'), element('span', 'who', words));
  $('street').append(item);
  while ($('street').children.length > 3) $('street').firstElementChild.remove();
  return item;
}

const chip = (kind, text) => element('span', kind, text);

/** Creates a chip with a passcode. */
function withKey(kind, text) {
  const made = chip(kind, text ? text + ' ' : '');
  made.append(keyIcon());
  return made;
}

/** Returns the label of a wrong passcode, with the start of the passcode if passcodes are shown. */
function wrongPasscode(event) {
  const read = state.events.findLast((other) => other.event === 'read' && other.thread === event.thread);
  const [, passcode] = /<HandshakePasscode>([^<]*)</.exec((read && read.details.bytes) || '') || [];
  return passcode ? 'wrong: ' + shortened(passcode) : 'wrong';
}

// --- the flights of each event

const FLIGHTS = {
  ticket(event, before) {
    const port = event.details.port;
    const ticket = () => withKey('ticket', port);
    if (event.web) return fly(ticket(), [before.stackTop, middle($('web')), faceOf(event.seat)], 1500);
    const asker = inTheStreet(event, withoutLoopback(event.details.asker), '');
    fly(chip('ticket', port), [before.stackTop, middle($('portal'))], 600, () => {
      fly(ticket(), [middle($('portal')), middle(asker)], 600, () => {
        fly(ticket(), [middle(asker), faceOf(event.seat)], 600);
        asker.remove();
      });
    });
  },
  'ticket-resent'(event) {
    fly(withKey('ticket', event.details.port), [middle($('portal')), middle($('street')) || faceOf(event.seat)], 800);
  },
  full(event) {
    const asker = inTheStreet(event, withoutLoopback(event.details.asker), 'bad');
    fly(chip('bad', 'FULL'), [middle(entranceOf(event)), middle(asker)], 900, () => {
      write(asker.querySelector('.who'), 'asks again');
      setTimeout(() => asker.remove(), 6000);
    });
  },
  arrived(event) {
    fly(chip('note', 'connect'), [faceOf(event.seat), socketOf(event.seat)], 700);
  },
  seated(event) {
    if (isSingle()) return fly(chip('note', 'connect'), [faceOf(event.seat), socketOf(event.seat)], 700);
    const { passcode } = partsOf(event.seat);
    fly(withKey('key', ''), [faceOf(event.seat), socketOf(event.seat), middle(passcode) || cardOf(event.seat)], 1000, () => {
      if (passcode && !calm.matches) passcode.animate([{ transform: 'scale(1.4)', color: 'var(--closing)' }, {}], 700);
    });
  },
  'wrong-passcode'(event) {
    fly(withKey('key bad', wrongPasscode(event)), [faceOf(event.seat), socketOf(event.seat), faceOf(event.seat)], 1200);
  },
  'unexpected-connection'(event) {
    // The client connects to the worker without a visit to the portal.
    const at = middle(partsOf(event.seat).client);
    fly(chip('bad', withoutLoopback(event.details.peer) + ' no ticket'), [at, socketOf(event.seat), at], 1800);
  },
  'no-show'(event) {
    const { card } = partsOf(event.seat);
    if (card && !calm.matches) card.animate([{ transform: 'none' }, { transform: 'translateX(-6px)' }, { transform: 'translateX(6px)' }, { transform: 'none' }], 500);
  },
  calling(event) {
    fly(chip('note', 'calls back'), [socketOf(event.seat), faceOf(event.seat)], 800);
  },
  closed(event, before) {
    const words = of({
      terminate: 'TERMINATE', 'idle-timeout': 'IDLE TIMEOUT', 'handshake-timeout': 'IDLE TIMEOUT', 'total-time-timeout': 'TOTAL TIME TIMEOUT',
      gone: 'closes', broken: 'reset', shutdown: 'SHUTDOWN', 'wrong-passcode': 'Wrong passcode',
    }, event.details.end) || event.details.end;
    const isClients = ['terminate', 'gone', 'broken'].includes(event.details.end);
    const way = [before.face, socketOf(event.seat)];
    fly(chip(isClients ? 'note' : 'bad', words), isClients ? way : way.reverse(), 900);
  },
  'seat-free'(event) {
    fly(chip('ticket', isSingle() ? event.seat : event.details.port), [cardOf(event.seat), stackTop()], 900);
  },
  relayed: (event) => deliver(event, 'partner', []),
  direct: (event) => deliver(event, 'direct', []),
  public: (event) => deliver(event, 'public', []),
  'room-said': (event) => deliver(event, 'room', [roomOf(event.details.room)]),
  'no-partner'(event) {
    fly(chip('message bad', 'no partner'), [faceOf(event.seat), cardOf(event.seat), faceOf(event.seat)], 1100);
  },
  'room-joined'(event) {
    fly(chip('message room', 'JOIN'), [faceOf(event.seat), roomOf(event.details.room)], 800);
  },
};

/** Animates a message: from the sender to its thread, and from there to the socket of each
 * recipient. A message to a room travels over the members' own connections to the room. */
function deliver(event, kind, via) {
  const text = said(event).slice(0, 40);
  const first = kind === 'room' ? via : [socketOf(event.seat), cardOf(event.seat)];
  const targets = event.to.slice(0, 40).filter((seat) => faceOf(seat));
  const bubble = (shown) => {
    const made = chip('message ' + kind, '');
    made.append(element('b', '', { public: 'everyone', partner: 'partner', direct: 'direct', room: 'room' }[kind]), shown ? ' ' + shown : '');
    return made;
  };
  fly(bubble(text), [faceOf(event.seat), ...first], 650, () => {
    const from = first[first.length - 1];
    // Many bubbles with text would hide the cards.
    const shown = targets.length > 3 ? '' : text;
    for (const seat of targets) fly(bubble(shown), [from, kind === 'room' ? null : socketOf(seat), faceOf(seat)], 850);
  });
}

/** Animates a tick, from the ticker to each timer that waits for it. */
function sendTick(event) {
  if (calm.matches) return;
  $('dial').animate([{ transform: 'scale(1.15)' }, {}], 400);
  const from = middle($('clock'));
  for (const [seat, card] of state.cards) {
    const next = nextTick(card);
    if (next !== null && next <= event.tick) fly(chip('beat', ''), [from, middle(partsOf(seat).timer) || cardOf(seat)], 600, () => flash(timerOf(seat)));
  }
}

/** Returns the data that an event's flights need from the state before the event. */
function departure(event) {
  return { stackTop: event.event === 'ticket' ? stackTop() : null, face: event.seat ? faceOf(event.seat) : null };
}

/** Animates an event that has just been shown. `before` is its departure. */
function animateEvent(event, before) {
  flash(event.thread);
  if (isCall(event)) return showCall(event);
  const flight = of(FLIGHTS, event.event);
  if (!flight) return;
  if (event.seat !== null || ['full', 'ticket-resent'].includes(event.event)) flight(event, before);
}
