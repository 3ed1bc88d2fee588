// The list of the server's threads, and the call that each one is blocked in.
'use strict';

/** The call that each thread is blocked in, and what it waits for, by the thread's name. For a
 * worker, both depend on its seat: see `blockedIn`. */
const ROLES = [
  [/^main$/, 'channel', 'signals, commands (ps shows the program’s name)'],
  [/^ticker$/, 'channel', 'its stop channel, a tick at a time'],
  [/^portal-tcp$/, 'accept', 'clients that request a port'],
  [/^portal-udp$/, 'recv_from', 'datagrams that request a port'],
  [/^portal-tls-/, 'read', 'a TLS handshake'],
  [/^worker-/, 'accept', 'the client that has the passcode'],
  [/^timer-/, 'channel', 'ticks, and spilled output'],
  [/^single-/, 'accept', 'clients: one port for everyone'],
  [/^seat-/, 'read', 'its client'],
  [/^web-/, 'accept', 'browsers'],
  [/^browser-/, 'read', 'its browser'],
  [/^room-/, 'accept', 'members'],
  [/^member-/, 'read', 'its member'],
  [/^writer-/, 'channel', 'spilled output'],
  [/^full-/, 'read', 'a TLS handshake, to send FULL'],
  [/^liveness$/, 'channel', 'ticks: are all clients’ machines still reachable?'],
  [/^late-workers$/, 'channel', 'ticks: are the busy ports free?'],
  [/^board-feed$/, 'channel', 'its queue of events'],
  [/^board-/, 'accept', 'viewers of the board'],
  [/^viewer-/, 'channel', 'its queue of updates for one viewer'],
  [/^console$|^event-file$/, 'channel', 'its queue of events'],
  [/^metrics-/, 'accept', 'programs that request metrics'],
  [/^scrape-/, 'read', 'a request for metrics'],
  [/^journal$/, 'channel', 'its queue of messages'],
  [/^cluster-out$/, 'channel', 'its queue of requests to Redis'],
  [/^cluster-in$/, 'read', 'what other servers publish in Redis'],
  [/^signals$/, 'read', 'signals'],
  [/^keys$/, 'read', 'the terminal'],
  [/^keyboard$|^answers$/, 'channel', 'the operator’s console'],
];

/** Returns the seat whose client this thread serves. */
function seatServedBy(thread) {
  for (const [seat, card] of state.cards) if (card.thread === thread) return seat;
  return undefined;
}

/** Returns the call that a thread is blocked in, and what it waits for there. */
function blockedIn(thread) {
  const [, call, why] = ROLES.find(([pattern]) => pattern.test(thread)) || [null, '?', ''];
  const seat = seatServedBy(thread);
  const timed = thread.startsWith('timer-') && state.cards.get(Number(thread.slice('timer-'.length)));
  if (timed && nextTick(timed) !== null) return { call, why: 'waits for tick ' + nextTick(timed) };
  if (seat === undefined) return { call, why };
  const card = state.cards.get(seat);
  const client = card.name || card.peer || 'a client';
  switch (card.phase) {
    case 'greeting': return { call: 'read', why: 'the passcode from ' + client };
    case 'calling': return { call: 'connect', why: client };
    case 'seated': return { call: 'read', why: 'messages from ' + client };
    case 'closing': return { call: 'busy', why: 'cleaning up' };
    default: return { call, why };
  }
}

/** Returns the name of a seat's timer thread. */
function timerOf(seat) {
  return 'timer-' + seat;
}

/** Returns the name of a seat's worker thread. A single port has none. */
function workerOf(seat) {
  return isSingle() ? null : 'worker-' + seat;
}

/** Returns the names and counts of all threads. Recordings of older servers do not name them. */
function allThreads() {
  if (state.threads.size) return state.threads;
  const threads = new Map([['main', 1], ['ticker', 1]]);
  const add = (name) => { if (name) threads.set(name, 1); };
  const at = state.listeners;
  for (const role of ['portal-tcp', 'portal-udp']) if (at[role]) add(role);
  for (const role of ['single', 'web']) if (at[role]) add(role + '-' + at[role].split(':').pop());
  for (const [seat, card] of state.cards) { add(workerOf(seat)); add(timerOf(seat)); add(card.thread); }
  for (const room of state.rooms) {
    add('room-' + room.port);
    add('timer-' + room.port);
    for (const member of room.members) { add(member.thread); add('writer-' + room.port); }
  }
  return threads;
}

/** Orders threads by role as in the table, then by number. */
function inOrder(one, other) {
  const role = (name) => { const at = ROLES.findIndex(([pattern]) => pattern.test(name)); return at < 0 ? ROLES.length : at; };
  const number = (name) => Number(name.split('-').pop()) || 0;
  return role(one) - role(other) || number(one) - number(other) || one.localeCompare(other);
}

function showThreads() {
  if ($('threads-view').hidden) return;
  const threads = allThreads();
  const names = [...threads.keys()].sort(inOrder);
  const total = [...threads.values()].reduce((sum, count) => sum + count, 0);
  write($('thread-count'), counted(total, 'thread', 'threads'));
  $('threads').classList.toggle('many', names.length > 48);
  const list = names.map((name) => {
    const { call, why } = blockedIn(name);
    const count = threads.get(name);
    return { name, call, why: why + (count > 1 ? ' (' + count + ' with this name)' : ''), count };
  });
  const text = JSON.stringify(list);
  if ($('threads').dataset.list === text) return;
  $('threads').dataset.list = text;
  $('threads').replaceChildren(...list.map(({ name, call, why, count }) => {
    const item = element('li');
    item.dataset.thread = name;
    item.dataset.count = count;
    item.append(element('b', '', name), element('code', 'call ' + call, call), element('span', '', why));
    return item;
  }));
}

/** Shows another server in the cluster, with its latest description, in a line of its own. */
function showServer(server) {
  $('servers-head').hidden = false;
  const id = 'server-' + server.server;
  const item = $(id) || element('li');
  const seats = server.taken + ' of ' + server.seats + ' seats taken';
  const words = server.lives ? seats + ', lag ' + (server.lag / 1000).toFixed(1) + ' ms' : 'lease expired';
  item.replaceChildren(element('b', '', server.server), element('span', '', words));
  if (!item.id) { item.id = id; $('servers').append(item); }
}
