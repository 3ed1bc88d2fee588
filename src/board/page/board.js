// The board: shows the snapshots and events that the server sends. All text from clients becomes
// text nodes, never markup.
'use strict';

const MOST_EVENTS = 3000;
const LINES = 60;

const state = {
  cards: new Map(),
  stack: { count: 0, top: [] },
  rooms: [],
  listeners: {},
  rules: {},
  seats: 0,
  tick: 0,
  events: [],
  replay: null,
  paused: false,
  chosen: null,
};

const $ = (id) => document.getElementById(id);
const calm = matchMedia('(prefers-reduced-motion: reduce)');
let source = null;

// --- updates from the server

function connect(query) {
  if (source) source.close();
  source = new EventSource('events' + (query || ''));
  source.addEventListener('news', (event) => arrived(JSON.parse(event.data)));
  source.addEventListener('end', () => {
    source.close();
    if (state.replay) {
      if (!state.paused) pause(true);
      link(state.replay.at < state.replay.count ? 'paused' : 'end of the run', true);
    } else {
      link('the server has stopped', false);
      // The server may be restarted.
      setTimeout(() => connect(''), 3000);
    }
  });
  source.onerror = () => {
    link('connection lost', false);
    // After some errors, a browser does not reconnect by itself.
    if (source.readyState === EventSource.CLOSED && !state.replay) setTimeout(() => connect(''), 3000);
  };
}

function link(text, isThere) {
  $('link').textContent = text;
  document.body.classList.toggle('lost', !isThere);
}

/** The updates from a running server, beginning with a complete one, and the number already shown. */
const live = { past: [], at: 0 };
/** Maximum number of updates kept. Beyond it, two updates are merged. */
const MOST_PAST = 2000;

/** Merges two updates. */
function together(one, next) {
  // A picture with rules is complete: it has all cards.
  const before = next.picture.rules ? {} : one.picture.cards;
  const cards = { ...before, ...next.picture.cards };
  // In a change, null removes a card. A complete picture simply omits it.
  if (one.whole) for (const key of Object.keys(cards)) if (!cards[key]) delete cards[key];
  const events = [...one.events, ...next.events].slice(-MOST_EVENTS);
  const unseen = (one.unseen || 0) + (next.unseen || 0);
  return { ...one, events, unseen, picture: { ...one.picture, caption: undefined, ...next.picture, cards } };
}

/** Handles an update. If the board of a running server is paused, keeps it for later. */
function arrived(news) {
  if (state.replay || news.replay) return take(news);
  // After a reconnect, earlier updates are of no use.
  if (news.whole) { live.past = []; state.paused = false; }
  live.past.push(news);
  if (live.past.length > MOST_PAST) {
    // Do not merge the update that is on the screen with a later one.
    const from = live.at > 1 ? 0 : live.past.length - 2;
    live.past.splice(from, 2, together(live.past[from], live.past[from + 1]));
    if (from === 0) live.at -= 1;
  }
  if (state.paused) showPaused();
  else { take(news); live.at = live.past.length; }
}

function pauseLive(wanted) {
  state.paused = wanted;
  if (wanted) return showPaused();
  // Merge many updates, instead of showing them one by one.
  if (live.past.length - live.at > 100) { live.at = live.past.length; takeAgain(); }
  while (live.at < live.past.length) { live.at += 1; take(live.past[live.at - 1]); }
  link('live', true);
}

function showPaused() {
  const waiting = live.past.length - live.at;
  link('paused' + (waiting ? '; ' + waiting + (waiting === 1 ? ' step' : ' steps') + ' behind' : '') + ' (space: continue)', true);
}

/** Shows the state at the current step. */
function takeAgain() {
  if (!live.at) return;
  const news = live.past.slice(0, live.at).reduce(together);
  take({ ...news, whole: true, unseen: 0 });
}

function stepLive(by) {
  if (!state.paused) pauseLive(true);
  const at = live.at + by;
  if (at < 1 || at > live.past.length) return;
  live.at = at;
  if (by > 0) take(live.past[at - 1]);
  else takeAgain();
  showPaused();
}

function take(news) {
  link(news.replay || state.replay ? 'a recorded run' : 'live', true);
  if (news.replay) {
    state.replay = news.replay;
    showReplay();
  }
  if (news.whole) forget();
  // Animate ticks before the update changes the cards.
  if (!news.whole) for (const event of news.events) if (event.event === 'tick') pulse(event);
  const first = news.whole && !state.replay && news.events[0];
  if (first && first.n > 1) note(counted(first.n - 1, 'earlier event is', 'earlier events are') + ' not shown; calls and messages from before the board was opened are missing');
  if (news.picture.rules) begin(news.picture);
  change(news.picture);
  for (const event of news.events) happened(event, news.whole);
  if (news.unseen) note(counted(news.unseen, 'more call or message', 'more calls and messages') + ' than can be shown here');
  showEvents();
  showStory();
  ladder.show();
}

function forget() {
  state.events = [];
  drawn = 0;
  ladder.clear();
  $('events').replaceChildren();
  $('servers').replaceChildren();
}

/** Starts with a complete picture. */
function begin(picture) {
  state.cards = new Map();
  state.rules = picture.rules;
  state.listeners = picture.listeners;
  state.seats = picture.seats;
  $('cards').replaceChildren();
  const at = state.listeners;
  document.body.classList.toggle('single', Boolean(at.single));
  const where = at['portal-tcp'] || at['portal-udp'] || at.single || '';
  const kinds = at.single ? 'one port' : [at['portal-tcp'] && 'TCP', at['portal-udp'] && 'UDP'].filter(Boolean).join(' and ');
  $('portal').textContent = where && (at.single ? where + ' (one port for everyone)' : 'portal ' + where + ' (' + kinds + ')');
}

function change(picture) {
  if (picture.tick !== state.tick) {
    state.tick = picture.tick;
    $('tick').textContent = picture.tick;
  }
  if (picture.stack) showStack(picture.stack);
  if (picture.rooms) showRooms(picture.rooms);
  for (const [key, card] of Object.entries(picture.cards)) {
    if (card) state.cards.set(Number(key), card);
    else state.cards.delete(Number(key));
    if (!card) { const gone = $('card-' + key); if (gone) gone.remove(); }
  }
  for (const [key, card] of state.cards) showCard(key, card);
  $('cards').classList.toggle('many', areMany());
  const hidden = state.seats - state.cards.size;
  $('more-cards').hidden = hidden <= 0;
  $('more-cards').textContent = 'and ' + hidden + ' more free seats';
  $('caption').hidden = !picture.caption;
  $('caption').textContent = picture.caption || '';
  showThreads();
  if (picture.over && !state.replay) link('the server is shutting down', false);
}

function happened(event, isOld) {
  state.events.push(event);
  if (state.events.length > MOST_EVENTS) state.events.splice(0, state.events.length - MOST_EVENTS);
  ladder.take(event);
  if (event.event === 'cluster-server') showServer(event.details);
  if (isOld) return;
  flash(event.thread);
  travel(event);
}

// --- the board

function showStack(stack) {
  state.stack = stack;
  const unit = state.listeners.single ? 'seat' : 'port';
  $('stack-count').textContent = stack.count + ' ' + unit + (stack.count === 1 ? '' : 's');
  const fits = Math.max(1, Math.floor($('stack').clientHeight / 37) - 1);
  const shown = stack.top.slice(0, fits).map((port) => element('li', '', port));
  if (stack.count > shown.length) shown.push(element('li', 'rest', stack.count - shown.length + ' more'));
  $('stack').replaceChildren(...shown);
}

function cardParts(key, at) {
  const made = element('button', 'card');
  made.id = 'card-' + key;
  const top = element('span', 'top');
  top.append(element('span', 'port', key), element('span', 'phase'), element('span', 'passcode'));
  const own = element('span', 'own');
  own.append(element('span', 'thread worker'), element('span', 'thread timer'));
  made.append(top, element('span', 'who'), element('span', 'left'), own);
  made.addEventListener('click', () => choose({ seat: key }));
  // Keep the cards in the order of the seats, so that partners are side by side.
  made.dataset.at = at;
  const after = [...$('cards').children].find((there) => Number(there.dataset.at) > at);
  $('cards').insertBefore(made, after || null);
  return made;
}

/** Returns whether the cards must be small to fit into the window. */
function areMany() {
  return state.cards.size > 8;
}

// Plainer words for some ends.
const endWords = { gone: 'closed the connection', broken: 'connection reset' };

function showCard(key, card) {
  const made = $('card-' + key) || cardParts(key, card.at);
  const was = made.dataset.changes;
  made.className = 'card ' + card.phase + (state.chosen && state.chosen.seat === key ? ' chosen' : '');
  const set = (name, text) => {
    const part = made.querySelector('.' + name);
    if (part.textContent !== text) part.textContent = text;
    return part;
  };
  set('phase', card.phase);
  // Clients of a single port have no passcodes.
  const passcode = set('passcode', state.listeners.single ? '' : 'passcode ' + (card.passcode || '••••••') + (card.changes ? ' (no. ' + (card.changes + 1) + ')' : ''));
  made.dataset.changes = card.changes;
  if (was !== undefined && Number(was) !== card.changes && !calm.matches) {
    passcode.animate([{ transform: 'rotateX(90deg)', color: 'var(--closing)' }, { transform: 'none' }], 900);
  }
  const who = of({
    free: card.end ? 'last visit: ' + (endWords[card.end] || card.end) : 'no client expected',
    reserved: 'for ' + (card.asker || 'a client'),
    greeting: (card.peer || 'a client') + ' must send the passcode',
    calling: 'connects to ' + (card.peer || 'a client'),
    // A small card has space for only one of the two.
    seated: [card.name, card.peer].filter(Boolean).slice(0, areMany() ? 1 : 2).join(', '),
    closing: card.end || '',
  }, card.phase);
  set('who', who || '');
  const left = [];
  const ticks = (until, what, most = Infinity) => {
    if (until === null || until === undefined) return;
    // A timeout fires at the first tick after its deadline, so its length plus one tick remains.
    const count = Math.min(most, Math.max(0, until - state.tick));
    const part = element('span', count <= 2 ? 'soon' : '');
    part.append(element('b', '', count), (count === 1 ? ' tick ' : ' ticks ') + what);
    left.push(part);
  };
  ticks(card.until, { reserved: 'to connect', greeting: 'to send it', calling: 'to answer' }[card.phase] || 'left');
  ticks(card.idle, 'until idle', state.rules.idle || undefined);
  ticks(card.total, 'left in total', state.rules.total || undefined);
  made.querySelector('.left').replaceChildren(...left);
  const blocked = { greeting: 'read: the passcode', seated: 'read: messages', calling: 'connect', closing: card.visit ? 'cleans up' : 'not running' }[card.phase] || 'accept';
  thread(made.querySelector('.worker'), threadOf('worker', key), state.listeners.single && card.phase === 'free' ? 'not running' : blocked);
  const next = nextTick(card);
  thread(made.querySelector('.timer'), threadOf('timer', key), next === null ? 'channel; wants no tick' : 'channel; wants tick ' + next);
  made.querySelector('.timer').title = 'This thread is blocked on its channel. It has asked the ticker for one tick: the next at which a deadline may have passed.';
}

/** Returns the tick that the seat's timer waits for, or `null`. */
function nextTick(card) {
  const all = [card.until, card.idle, card.total].filter((tick) => tick !== null && tick !== undefined);
  return all.length ? Math.min(...all) : null;
}

function thread(part, name, blocks) {
  const text = name + ': ' + blocks;
  if (part.textContent === text) return;
  part.replaceChildren(element('b', '', name), ': ' + blocks);
  part.dataset.thread = name;
}

function threadOf(role, seat) {
  return (role === 'worker' && state.listeners.single ? 'seat' : role) + '-' + seat;
}

/** Returns the seat of the client with that name. */
function seatOf(name) {
  for (const [seat, card] of state.cards) {
    if (card.name && card.name.toLowerCase() === String(name).toLowerCase()) return seat;
  }
  return undefined;
}

function partnerOf(seat) {
  const card = state.cards.get(seat);
  return card && card.partner;
}

function showThreads() {
  const list = [['main', 'signals and the operator’s commands'], ['ticker', 'its stop channel, a tick at a time']];
  const of = state.listeners;
  if (of['portal-tcp']) list.push(['portal-tcp', 'accept']);
  if (of['portal-udp']) list.push(['portal-udp', 'recv_from']);
  if (of.single) list.push(['single-' + of.single.split(':').pop(), 'accept']);
  for (const room of state.rooms) list.push(['room-' + room.port, 'accept'], ['timer-' + room.port, 'its channel']);
  list.push(['console', 'its queue of events'], ['board-feed', 'its queue of events'], ['viewer-N', 'its queue of updates; one thread per open board']);
  const text = JSON.stringify(list);
  if ($('threads').dataset.list === text) return;
  $('threads').dataset.list = text;
  $('threads').replaceChildren(...list.map(([name, blocks]) => {
    const item = element('li');
    item.dataset.thread = name;
    item.append(element('b', '', name), element('span', '', blocks));
    return item;
  }));
}

function showRooms(rooms) {
  state.rooms = rooms;
  const shown = rooms.map((room) => {
    const item = element('li');
    item.id = 'room-' + room.name;
    item.append(element('b', '', room.name), element('span', '', 'port ' + room.port + ': ' + (room.members.join(', ') || 'no members')));
    return item;
  });
  $('rooms').replaceChildren(...(shown.length ? shown : [element('li', 'none', 'none')]));
}

/** Shows another server of the chat: one line each, with its latest description. */
function showServer(server) {
  $('servers-head').hidden = false;
  const id = 'server-' + server.server;
  const item = $(id) || element('li');
  const seats = server.taken + ' of ' + server.seats + ' seats taken';
  const words = server.lives ? seats + ', lag ' + (server.lag / 1000).toFixed(1) + ' ms' : 'lease expired';
  item.replaceChildren(element('b', '', server.server), element('span', '', words));
  if (!item.id) { item.id = id; $('servers').append(item); }
}

let drawn = 0;
function showEvents() {
  const fresh = state.events.filter((event) => event.n > drawn && !isCall(event) && !['activity', 'caption', 'cluster-server'].includes(event.event) && !(event.event === 'tick' && event.details.told === 0));
  if (state.events.length) drawn = state.events[state.events.length - 1].n;
  const box = $('events-side');
  for (const event of fresh.slice(-LINES)) {
    const line = element('li');
    line.tabIndex = 0;
    line.append(
      element('span', 'tick', event.tick), element('span', 'by', event.thread), element('span', 'word', event.event),
      element('span', 'details', details(event)));
    line.addEventListener('click', () => choose({ event }));
    line.addEventListener('keydown', (key) => { if (key.key === 'Enter') choose({ event }); });
    $('events').append(line);
  }
  while ($('events').children.length > LINES) $('events').firstElementChild.remove();
  if (fresh.length) box.scrollTop = box.scrollHeight;
}

function note(text) {
  const line = element('li', '');
  line.append(element('span', 'note', text));
  $('events').append(line);
}

// --- animations

function flash(name) {
  if (calm.matches || document.hidden) return;
  for (const part of document.querySelectorAll('[data-thread]')) {
    if (part.dataset.thread === name) part.animate([{ backgroundColor: 'var(--glow)' }, { backgroundColor: 'transparent' }], 900);
  }
}

function middle(part) {
  const box = part.getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
}

let flying = 0;
function fly(made, from, to, duration) {
  if (calm.matches || document.hidden || flying > 60 || $('board').hidden) return;
  flying += 1;
  document.body.append(made);
  const place = ([x, y]) => `translate(${x}px, ${y}px) translate(-50%, -50%)`;
  const moving = made.animate([{ transform: place(from) }, { transform: place(to) }], { duration, easing: 'ease-in-out', fill: 'both' });
  const done = () => { made.remove(); flying -= 1; };
  moving.onfinish = done;
  moving.oncancel = done;
}

/** Animates a tick: a bright dot to each timer that waits for it, a faint one to the others. */
function pulse(event) {
  if (calm.matches) return;
  $('pulse').animate([{ transform: 'scale(2)', backgroundColor: 'var(--closing)' }, { transform: 'none' }], 600);
  const from = middle($('pulse'));
  for (const [key, card] of state.cards) {
    const timer = $('card-' + key) && $('card-' + key).querySelector('.timer');
    const next = nextTick(card);
    if (!timer || !timer.offsetParent || next === null) continue;
    fly(element('span', next <= event.tick ? 'beat told' : 'beat'), from, middle(timer), 500);
  }
}

/** Animates a message from socket to socket. */
function travel(event) {
  const d = event.details;
  const from = event.seat !== null && $('card-' + event.seat);
  if (!from || !['relayed', 'direct', 'public', 'room-said', 'no-partner'].includes(event.event)) return;
  const targets = [];
  if (event.event === 'relayed') targets.push($('card-' + event.to));
  if (event.event === 'room-said') targets.push($('room-' + d.room));
  if (event.event === 'direct') targets.push($('card-' + seatOf(d.to)));
  // A public message is a single bubble, because one per recipient would hide the cards.
  if (event.event === 'public') targets.push($('cards'));
  const text = d.text === undefined ? (d.bytes === undefined ? 'a message' : counted(d.bytes, 'byte', 'bytes')) : String(d.text).slice(0, 60);
  for (const target of targets.filter(Boolean)) fly(element('span', 'message', text), middle(from), middle(target), 900);
}

// --- the story of the selection

function showLegend(wanted) {
  if (wanted) closeStory();
  $('legend').hidden = !wanted;
  if (wanted) $('close-legend').focus();
}

function choose(what) {
  showLegend(false);
  if (what.event && what.event.visit) what.visit = what.event.visit;
  if (what.seat) {
    const card = state.cards.get(what.seat);
    const last = [...state.events].reverse().find((event) => event.seat === what.seat && event.visit);
    what.visit = (card && card.visit) || (last && last.visit) || null;
  }
  state.chosen = what;
  $('story').hidden = false;
  shownStory = '';
  showStory();
  for (const [key, card] of state.cards) showCard(key, card);
  $('close-story').focus();
}

function closeStory() {
  const seat = state.chosen && state.chosen.seat;
  state.chosen = null;
  $('story').hidden = true;
  for (const [key, card] of state.cards) showCard(key, card);
  if (seat && $('card-' + seat)) $('card-' + seat).focus();
}

let shownStory = '';
function showStory() {
  const chosen = state.chosen;
  if (!chosen) return;
  let events;
  let title;
  if (chosen.visit) {
    const ticket = state.events.find((event) => event.visit === chosen.visit && event.event === 'ticket');
    const asker = ticket && ticket.details.asker;
    const own = state.events.filter((event) => event.visit === chosen.visit);
    const seat = own.length ? own[own.length - 1].seat : chosen.seat;
    // The story includes the thread's calls for other clients, and the client's call at the portal.
    const isDuring = (event) => own.length && event.n > own[0].n && event.n < own[own.length - 1].n;
    const isIts = (event) => event.visit === chosen.visit
      || (isCall(event) && event.thread === threadOf('worker', seat) && isDuring(event))
      || (asker && event.details.address === asker && event.tick <= ticket.tick + 1);
    events = state.events.filter(isIts);
    const named = [...events].reverse().find((event) => event.event === 'logged-in');
    title = 'Visit ' + chosen.visit + ', port ' + seat + (named ? ': ' + named.details.name : '');
  } else if (chosen.event) {
    events = [chosen.event];
    title = chosen.event.event;
  } else {
    events = state.events.filter((event) => event.seat === chosen.seat);
    title = 'Port ' + chosen.seat;
  }
  const key = title + events.length + (events.length ? events[events.length - 1].n : '');
  if (key === shownStory) return;
  shownStory = key;
  $('story-title').textContent = title;
  const shown = events.slice(-300).map((event) => step(event, chosen.event && chosen.event.n === event.n));
  $('story-steps').replaceChildren(...(shown.length ? shown : [element('li', '', 'Nothing has happened here yet.')]));
  const at = $('story-steps').querySelector('.chosen');
  if (at) at.scrollIntoView({ block: 'center' });
}

// --- a recorded run

function speed() {
  return '&speed=' + $('speed').value;
}

function showReplay() {
  const { at, count } = state.replay;
  $('replay').hidden = false;
  $('position').max = count;
  if (document.activeElement !== $('position') || !seeking) $('position').value = at;
  $('place').textContent = at + ' of ' + count;
  const options = [...$('speed').options].map((option) => option.value);
  const given = String(state.replay.speed);
  if (!options.includes(given)) $('speed').append(element('option', '', given));
  if (!showReplay.begun) { $('speed').value = given; showReplay.begun = true; }
}

function pause(wanted) {
  state.paused = wanted;
  $('pause').firstChild.textContent = wanted ? 'Play ' : 'Pause ';
  if (wanted) source.close();
  else connect('?from=' + (state.replay.at >= state.replay.count ? 0 : state.replay.at) + speed());
  if (wanted) link('paused', true);
}

let seeking = false;
function seek(position) {
  connect('?from=' + position + (state.paused ? '&count=0' : '') + speed());
}

$('pause').addEventListener('click', () => pause(!state.paused));
$('step').addEventListener('click', () => {
  if (!state.paused) pause(true);
  connect('?from=' + state.replay.at + '&count=1' + speed());
});
function stepBack() {
  if (!state.paused) pause(true);
  seek(Math.max(0, state.replay.at - 1));
}
$('position').addEventListener('input', () => { seeking = true; });
$('position').addEventListener('change', () => { seeking = false; seek($('position').value); });
$('speed').addEventListener('change', () => { if (!state.paused) seek(state.replay.at); });
$('replay').addEventListener('submit', (event) => event.preventDefault());

// --- keys and buttons

function view(name) {
  $('board').hidden = name !== 'board';
  $('ladder').hidden = name !== 'ladder';
  $('show-board').setAttribute('aria-pressed', name === 'board');
  $('show-ladder').setAttribute('aria-pressed', name === 'ladder');
  ladder.dirty = true;
  ladder.show();
}

function theme(isDark) {
  document.documentElement.classList.toggle('dark', isDark);
  ladder.dirty = true;
  ladder.show();
}

$('show-board').addEventListener('click', () => view('board'));
$('show-ladder').addEventListener('click', () => view('ladder'));
$('theme').addEventListener('click', () => theme(!document.documentElement.classList.contains('dark')));
$('close-story').addEventListener('click', closeStory);
$('show-legend').addEventListener('click', () => showLegend($('legend').hidden));
$('close-legend').addEventListener('click', () => showLegend(false));
$('save').addEventListener('click', () => ladder.save());
$('ticks').addEventListener('change', () => { ladder.dirty = true; ladder.show(); });
$('ladder-scroll').addEventListener('click', (event) => {
  const row = event.target.closest('.row');
  const found = row && state.events.find((there) => there.n === Number(row.dataset.n));
  if (found) choose({ event: found });
});
addEventListener('resize', () => { showStack(state.stack); ladder.dirty = true; ladder.show(); });

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT)$/.test(event.target.tagName)) return;
  const act = of({
    b: () => view('board'), l: () => view('ladder'), t: () => $('theme').click(), s: () => ladder.save(),
    '?': () => showLegend($('legend').hidden),
    Escape: () => { closeStory(); showLegend(false); },
    ' ': event.target.tagName !== 'BUTTON' && (() => (state.replay ? pause : pauseLive)(!state.paused)),
    ArrowRight: () => (state.replay ? $('step').click() : stepLive(1)),
    ArrowLeft: () => (state.replay ? stepBack() : stepLive(-1)),
  }, event.key);
  if (!act) return;
  event.preventDefault();
  act();
});

const dark = matchMedia('(prefers-color-scheme: dark)');
dark.addEventListener('change', () => theme(dark.matches));
theme(dark.matches);
const asked = new URLSearchParams(location.search);
if (asked.get('view') === 'ladder') view('ladder');
connect(location.hash ? '?from=' + Number(location.hash.slice(1)) : '');
