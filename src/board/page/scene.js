// The scene: the actors and where they are. It draws a state, regardless of how the server
// reached it; flights.js animates the transitions.
'use strict';

/** Plainer words for some close reasons. */
const END_WORDS = {
  gone: 'closed', broken: 'reset', terminate: 'TERMINATE', 'idle-timeout': 'idle', 'total-time-timeout': 'total time', 'handshake-timeout': 'no passcode',
};

/** Draws everything that has changed. */
function showScene() {
  write($('tick'), state.tick);
  showPeriod();
  $('hand').setAttribute('transform', `rotate(${(state.tick % 12) * 30} 50 50)`);
  document.body.classList.toggle('single', isSingle());
  showCaption();
  showEntrances();
  showRooms();
  showCards();
  showStack();
  showThreads();
  lookAtWires();
}

/** Shows how long the last tick took: the seed's interrupt comes every one to two seconds. */
function showPeriod() {
  const ticks = state.events.slice(-200).filter((event) => event.event === 'tick').slice(-2);
  write($('period'), ticks.length < 2 ? '' : 'every ' + ((ticks[1].time - ticks[0].time) / 1000).toFixed(1) + ' s');
}

function showCaption() {
  const caption = state.caption;
  $('caption').hidden = !caption;
  write($('caption'), caption ? caption.text : '');
  const looked = new Set(((caption && caption.look) || '').split(' ').filter(Boolean));
  for (const part of document.querySelectorAll('[data-look]')) part.classList.toggle('looked', looked.has(part.dataset.look));
}

// --- the entrances

function showEntrances() {
  const at = state.listeners;
  const port = (address) => address.slice(address.lastIndexOf(':'));
  const threads = [['portal-tcp', at['portal-tcp']], ['portal-udp', at['portal-udp']]].filter(([, address]) => address);
  const fill = (box, name, address, shown) => {
    const key = JSON.stringify([name, address, shown]);
    if (box.dataset.shown === key) return;
    box.dataset.shown = key;
    const head = element('p', 'name', name + ' ');
    head.append(element('b', '', port(address)));
    head.title = 'listening on ' + address;
    box.replaceChildren(head, ...shown.map((thread) => {
      const chip = element('p', 'thread');
      chip.dataset.thread = thread;
      chip.append(element('b', '', thread + ': '), element('span', 'call', blockedIn(thread).call));
      return chip;
    }), element('i', 'socket'));
  };
  if (at.single) fill($('portal'), 'one port', at.single, ['single' + port(at.single).replace(':', '-')]);
  else if (threads.length) fill($('portal'), 'portal', threads[0][1], threads.map(([thread]) => thread));
  $('web').hidden = !at.web;
  if (at.web) fill($('web'), 'web', at.web, ['web' + port(at.web).replace(':', '-')]);
}

// --- the stack

function showStack() {
  const stack = state.stack;
  const unit = isSingle() ? 'seat' : 'port';
  write($('stack-count'), counted(stack.count, unit, unit + 's') + (stack.count || !state.seats ? '' : ': FULL'));
  $('stack-side').classList.toggle('empty', !stack.count && state.seats > 0);
  const fits = Math.max(1, Math.floor($('stack').clientHeight / (parseFloat(getComputedStyle($('stack')).fontSize) * 1.36)) - 1);
  const shown = stack.top.slice(0, stack.count > fits + 1 ? fits : fits + 1);
  const key = shown.join() + '/' + stack.count;
  if ($('stack').dataset.shown === key) return;
  $('stack').dataset.shown = key;
  const items = shown.map((port) => element('li', '', port));
  if (stack.count > shown.length) items.push(element('li', 'rest', '+ ' + (stack.count - shown.length)));
  $('stack').replaceChildren(...items);
}

// --- the seats and their clients

/** Returns the number of columns for roughly square cells. Partners stay side by side. */
function columnsFor(count, width, height) {
  let best = [2, Infinity];
  for (let columns = 2; columns <= Math.max(2, count + count % 2) && columns <= 16; columns += 2) {
    const rows = Math.ceil(count / columns);
    const ratio = (width / columns) / (height / rows);
    const cost = Math.abs(Math.log(ratio / 0.95)) + (rows * columns - count) / count / 2;
    if (cost < best[1]) best = [columns, cost];
  }
  return best[0];
}

function placeParts(seat, at) {
  const place = element('div', 'place');
  place.id = 'place-' + seat;
  const card = element('button', 'card');
  card.id = 'card-' + seat;
  card.dataset.look = seat;
  card.type = 'button';
  const top = element('span', 'top');
  top.append(element('span', 'port', seat), element('span', 'phase'));
  const passcode = element('span', 'passcode');
  passcode.append(keyIcon(), ' ', element('span', 'code'));
  card.append(top, passcode, element('span', 'own'), element('span', 'left'), element('i', 'socket'));
  card.addEventListener('click', () => choose({ seat }));
  const client = element('div', 'client');
  client.dataset.look = 'client-' + seat;
  client.append(element('i', 'face'), element('span', 'who'), element('span', 'rooms'));
  place.append(card, client);
  // Keep the places in the order of the seats, so that partners are side by side.
  place.dataset.at = at;
  const after = [...$('cards').children].find((there) => Number(there.dataset.at) > at);
  $('cards').insertBefore(place, after || null);
  return place;
}

function showCards() {
  for (const place of [...$('cards').children]) {
    if (!state.cards.has(Number(place.id.slice('place-'.length)))) place.remove();
  }
  // Up to eight cards stay readable beside an open panel.
  document.body.classList.toggle('few-seats', state.cards.size <= 8);
  const box = $('cards');
  const columns = columnsFor(state.cards.size, box.clientWidth || 1, box.clientHeight || 1);
  if (box.dataset.columns !== String(columns)) {
    box.dataset.columns = columns;
    box.style.setProperty('--columns', columns);
  }
  const unit = Math.min(innerWidth / 192, innerHeight / 108);
  const high = box.clientHeight / Math.ceil(state.cards.size / columns) / unit;
  const size = high >= 54 ? 'large' : high >= 27 ? 'medium' : 'small';
  if (box.className !== size) box.className = size;
  for (const [seat, card] of state.cards) showCard(seat, card);
  const hidden = state.seats - state.cards.size;
  $('more-cards').hidden = hidden <= 0;
  write($('more-cards'), 'and ' + hidden + ' more free seats');
}

function showCard(seat, card) {
  const place = $('place-' + seat) || placeParts(seat, card.at);
  const made = place.firstChild;
  const isChosen = state.chosen && state.chosen.seat === seat;
  const looked = made.classList.contains('looked') ? ' looked' : '';
  made.className = 'card ' + card.phase + (isChosen ? ' chosen' : '') + looked;
  place.classList.toggle('web', Boolean(card.web && card.phase !== 'free'));
  const set = (name, text) => write(place.querySelector('.' + name), text);
  set('phase', card.phase);
  // Clients of a single port have no passcodes.
  const isUsed = ['seated', 'calling', 'closing'].includes(card.phase) && !isSingle();
  const passcode = place.querySelector('.passcode');
  passcode.hidden = isSingle();
  set('code', (card.passcode ? shortened(card.passcode) : '••••••') + (card.changes ? ' no. ' + (card.changes + 1) : '') + (isUsed ? ' used' : ''));
  passcode.classList.toggle('used', isUsed);
  showClient(place, card);
  showLeft(place, card);
  showOwnThreads(place, seat, card);
}

function showClient(place, card) {
  const client = place.lastChild;
  const isThere = ['greeting', 'calling', 'seated'].includes(card.phase) || card.phase === 'closing' && card.peer;
  const kind = isThere ? 'there' : card.phase === 'reserved' ? 'expected' : 'absent';
  const peer = card.peer && withoutLoopback(card.peer);
  const name = { greeting: peer, calling: peer, seated: card.name || peer, closing: card.name || peer || card.end };
  const words = of(name, card.phase)
    || (card.phase === 'reserved' ? 'has a ticket' : card.end ? 'last visit: ' + (of(END_WORDS, card.end) || card.end) : '');
  const looked = client.classList.contains('looked') ? ' looked' : '';
  client.className = 'client ' + kind + (card.web ? ' web' : '') + looked;
  client.title = [card.name, card.peer || card.asker].filter(Boolean).join(', ');
  write(client.querySelector('.who'), words || '');
  const seat = Number(place.id.slice('place-'.length));
  const rooms = state.rooms.filter((room) => room.members.some((member) => member.seat === seat));
  write(client.querySelector('.rooms'), rooms.map((room) => room.name).join(', '));
}

function showLeft(place, card) {
  const left = [];
  const ticks = (until, what, most = Infinity) => {
    if (until === null || until === undefined) return;
    // A timeout fires at the first tick after its deadline, so its length plus one tick remains.
    const count = Math.min(most, Math.max(0, until - state.tick));
    const part = element('span', count <= 2 ? 'soon' : '');
    part.append(element('b', '', count), (count === 1 ? ' tick ' : ' ticks ') + what);
    left.push(part);
  };
  const most = { reserved: state.rules.reserve, greeting: state.rules.handshake }[card.phase];
  ticks(card.until, { reserved: 'to connect', greeting: 'for the passcode', calling: 'to answer' }[card.phase] || 'left', most || undefined);
  ticks(card.idle, 'until idle', state.rules.idle || undefined);
  ticks(card.total, 'left in total', state.rules.total || undefined);
  place.querySelector('.left').replaceChildren(...left);
}

/** Shows a seat's threads: the worker, the one that serves its client in the worker's place, and the
 * timer. */
function showOwnThreads(place, seat, card) {
  const worker = workerOf(seat);
  const isBusy = card.end === 'its port is busy' && card.phase === 'closing';
  const threads = [];
  if (worker) threads.push(['worker', worker, isBusy ? 'not running' : blockedIn(worker).call]);
  if (card.thread && card.thread !== worker) threads.push([null, card.thread, blockedIn(card.thread).call]);
  const next = nextTick(card);
  threads.push(['timer', timerOf(seat), next === null ? 'channel' : 'tick ' + next]);
  const own = place.querySelector('.own');
  const key = JSON.stringify(threads);
  if (own.dataset.shown === key) return;
  own.dataset.shown = key;
  own.replaceChildren(...threads.map(([role, name, call]) => {
    const chip = element('span', 'thread ' + (role || 'server') + ' ' + call.split(' ')[0]);
    chip.dataset.thread = name;
    chip.title = name + ': ' + call;
    // Only a large card shows the thread's number, which is the port that every card shows anyway.
    const label = element('b', '', role || name);
    if (role) label.append(element('span', 'number', name.slice(role.length)));
    label.append(': ');
    const blocked = element('span', 'call', call);
    if (call.startsWith('tick ')) blocked.prepend(element('span', 'number', 'wants '));
    chip.append(label, blocked);
    return chip;
  }));
}

/** Returns the tick that the seat's timer waits for, or `null`. */
function nextTick(card) {
  const all = [card.until, card.idle, card.total].filter((tick) => tick !== null && tick !== undefined);
  return all.length ? Math.min(...all) : null;
}

// --- rooms

function showRooms() {
  $('rooms').hidden = !state.rooms.length;
  const key = JSON.stringify(state.rooms);
  if ($('rooms').dataset.shown === key) return;
  $('rooms').dataset.shown = key;
  $('rooms').replaceChildren(...state.rooms.map((room) => {
    const item = element('li', 'room-box');
    item.id = 'room-' + room.name;
    item.dataset.room = room.name.toLowerCase();
    const head = element('p', 'name', 'room ' + room.name + ' ');
    head.append(element('b', '', ':' + room.port));
    const chips = element('p', 'own');
    const chip = (thread, words) => {
      const part = element('span', 'thread');
      part.dataset.thread = thread;
      part.append(element('b', '', thread + ': '), element('span', 'call', words));
      chips.append(part);
    };
    chip('room-' + room.port, 'accept');
    for (const member of room.members) chip(member.thread, 'read (' + member.name + ')');
    if (!room.members.length) chips.append(element('span', 'none', 'no members'));
    item.append(head, chips);
    return item;
  }));
}

// --- connections: lines from the clients to the sockets

let wiresAreDue = false;
function lookAtWires() {
  if (wiresAreDue) return;
  wiresAreDue = true;
  requestAnimationFrame(() => { wiresAreDue = false; drawWires(); });
}

/** Returns the middle of a part's edge, relative to the board. */
function pointOf(part, side) {
  const box = part.getBoundingClientRect();
  const board = $('board').getBoundingClientRect();
  const x = box.left + box.width / 2 - board.left;
  const at = { top: box.top, bottom: box.bottom, middle: box.top + box.height / 2 };
  return [x, at[side] - board.top];
}

function drawWires() {
  if ($('board').hidden) return;
  const lines = [];
  const line = (from, to, kind) => lines.push(make('line', { x1: from[0], y1: from[1], x2: to[0], y2: to[1], class: 'wire ' + kind }));
  for (const [seat, card] of state.cards) {
    const place = $('place-' + seat);
    if (!place) continue;
    const [made, client] = [place.firstChild, place.lastChild];
    const face = client.firstChild;
    if (['greeting', 'seated', 'calling'].includes(card.phase)) {
      line(pointOf(made.querySelector('.socket'), 'middle'), pointOf(face, 'top'), card.phase + (card.web ? ' web' : ''));
    }
    // Partners can talk to each other. The one on the left draws the line.
    const partner = card.partner && state.cards.get(card.partner);
    const beside = partner && partner.phase === 'seated' && card.phase === 'seated' && $('card-' + card.partner);
    if (beside) {
      const [one, other] = [made.getBoundingClientRect(), beside.getBoundingClientRect()];
      const board = $('board').getBoundingClientRect();
      const y = one.top + one.height / 2 - board.top;
      if (one.left < other.left && Math.abs(one.top - other.top) < 4) line([one.right - board.left, y], [other.left - board.left, y], 'pair');
    }
  }
  $('wires').replaceChildren(...lines);
}
