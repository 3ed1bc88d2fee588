// The page's frame: the stream of updates, the list of events, the selection, views, buttons and keys.
'use strict';

/** Maximum number of lines in the list of events. */
const LINES = 60;

let source = null;

// --- the stream

function connect(query) {
  if (source) source.close();
  const own = new EventSource('events' + (query || ''));
  source = own;
  own.addEventListener('news', (event) => {
    const news = JSON.parse(event.data);
    timeline.take(news);
    if (news.unseen) note(counted(news.unseen, 'more call or message', 'more calls and messages') + ' than can be shown here');
  });
  own.addEventListener('end', () => {
    own.close();
    timeline.ended();
    // Reconnect in case the server is restarted.
    if (!timeline.replay) setTimeout(() => connect(''), 3000);
  });
  own.onerror = () => {
    // Report the loss only if every event that has arrived is shown.
    if (timeline.at >= timeline.events.length) link('connection lost', false);
    // After some errors, a browser does not reconnect by itself.
    if (own.readyState === EventSource.CLOSED && own === source) setTimeout(() => (timeline.replay ? timeline.loadMore() : connect('')), 3000);
  };
}

function link(text, isThere) {
  write($('link'), text);
  document.body.classList.toggle('lost', !isThere);
}

// --- showing events

/** Shows a state without animations, with the events before it. */
function showAll(shown, events) {
  Object.assign(state, shown);
  state.events = events;
  $('events').replaceChildren();
  $('servers').replaceChildren();
  const first = events[0];
  if (first && first.n > 1 && !timeline.replay) {
    note(counted(first.n - 1, 'earlier event is', 'earlier events are') + ' not shown; calls and messages from before the board was opened are missing');
  }
  ladder.clear();
  const past = Math.max(0, events.length - 2 * MOST_ROWS);
  events.slice(past).forEach((event, index) => ladder.take(event, timeline.states[past + index]));
  for (const event of events) if (event.event === 'cluster-server') showServer(event.details);
  showScene();
  list(events.filter(isListed).slice(-LINES));
  showStory();
  ladder.show();
}

/** Shows one more event. `isLast` is false if another one follows immediately. */
function showEvent(event, shown, isLast) {
  const isWorthwhile = isLast || isStep(event);
  const before = isWorthwhile ? departure(event) : {};
  // Ticks go to the timers that waited before the tick.
  if (event.event === 'tick') sendTick(event);
  Object.assign(state, shown);
  state.events.push(event);
  if (state.events.length > MOST_EVENTS * 1.2) state.events.splice(0, state.events.length - MOST_EVENTS);
  if (isWorthwhile) showScene();
  if (event.event === 'cluster-server') showServer(event.details);
  ladder.take(event);
  animateEvent(event, before);
  if (isListed(event)) list([event]);
  if (isLast) {
    showStory();
    ladder.show();
  }
}

/** Appends events to the list. */
function list(events) {
  const box = $('events-side');
  for (const event of events) {
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
  if (events.length) box.scrollTop = box.scrollHeight;
}

function note(text) {
  const line = element('li', '');
  line.append(element('span', 'note', text));
  $('events').append(line);
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
  if (what.event && what.event.seat) what.seat = what.event.seat;
  if (what.seat && !what.visit) {
    const card = state.cards.get(what.seat);
    const last = [...state.events].reverse().find((event) => event.seat === what.seat && event.visit);
    what.visit = (card && card.visit) || (last && last.visit) || null;
  }
  state.chosen = what;
  $('story').hidden = false;
  shownStory = '';
  showStory();
  showCards();
  $('close-story').focus();
}

function closeStory() {
  const seat = state.chosen && state.chosen.seat;
  state.chosen = null;
  $('story').hidden = true;
  showCards();
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
    const threads = new Set(own.map((event) => event.by).filter(Boolean));
    // The story includes the thread's calls for other clients, and the client's request to the
    // portal.
    const isDuring = (event) => own.length && event.n > own[0].n && event.n < own[own.length - 1].n;
    const isIts = (event) => event.visit === chosen.visit
      || (isCall(event) && threads.has(event.thread) && isDuring(event))
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
  const card = state.cards.get(chosen.seat);
  const key = title + events.length + (events.length ? events[events.length - 1].n : '') + (card ? card.phase : '');
  if (key === shownStory) return;
  shownStory = key;
  $('story-title').textContent = title;
  $('diagram').replaceChildren(...(card ? [stateDiagram(chosen.seat)] : []));
  const shown = events.slice(-300).map((event) => step(event, chosen.event && chosen.event.n === event.n));
  $('story-steps').replaceChildren(...(shown.length ? shown : [element('li', '', 'Nothing has happened here yet.')]));
  const at = $('story-steps').querySelector('.chosen');
  if (at) at.scrollIntoView({ block: 'center' });
}

// --- time controls

$('pause').addEventListener('click', () => timeline.toggle());
$('step').addEventListener('click', () => timeline.step(1));
$('back').addEventListener('click', () => timeline.step(-1));
$('next').addEventListener('click', () => timeline.next());
$('previous').addEventListener('click', () => timeline.previous());
$('to-end').addEventListener('click', () => timeline.toEnd());
$('position').addEventListener('change', () => {
  if (timeline.mode === 'live') timeline.pause();
  timeline.seek(Number($('position').value));
});
$('speed').addEventListener('change', () => timeline.setSpeed(Number($('speed').value)));
$('time').addEventListener('submit', (event) => event.preventDefault());

function changeSpeed(by) {
  const at = SPEEDS.findIndex((speed) => speed >= timeline.speed);
  timeline.setSpeed(SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, at + by))]);
}

// --- views, keys and buttons

const VIEWS = { board: 'board', threads: 'threads-view', ladder: 'ladder' };

function view(name) {
  for (const [key, id] of Object.entries(VIEWS)) {
    $(id).hidden = key !== name;
    $('show-' + key).setAttribute('aria-pressed', key === name);
  }
  document.body.dataset.view = name;
  showScene();
  ladder.dirty = true;
  ladder.show();
}

function theme(isDark) {
  document.documentElement.classList.toggle('dark', isDark);
  ladder.dirty = true;
  ladder.show();
}

for (const name of Object.keys(VIEWS)) $('show-' + name).addEventListener('click', () => view(name));
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
// The board's size changes with the window, and with the caption.
new ResizeObserver(() => {
  showCards();
  showStack();
  lookAtWires();
  $('events-side').scrollTop = $('events-side').scrollHeight;
}).observe($('board'));
$('board').addEventListener('scroll', lookAtWires, true);
addEventListener('resize', () => { ladder.dirty = true; ladder.show(); });

// A clicked button gives up the focus. Otherwise, Space would press it again instead of pausing.
document.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button && event.detail > 0) button.blur();
});
for (const id of ['position', 'speed']) $(id).addEventListener('change', () => $(id).blur());

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const act = of({
    b: () => view('board'), h: () => view('threads'), l: () => view('ladder'), t: () => $('theme').click(), s: () => ladder.save(),
    '?': () => showLegend($('legend').hidden),
    Escape: () => { closeStory(); showLegend(false); },
    ' ': event.target.tagName !== 'BUTTON' && (() => timeline.toggle()),
    n: () => timeline.next(),
    p: () => timeline.previous(),
    e: () => timeline.toEnd(),
    ',': () => changeSpeed(-1),
    '.': () => changeSpeed(1),
    ArrowRight: () => timeline.step(1),
    ArrowLeft: () => timeline.step(-1),
  }, event.key);
  if (!act) return;
  event.preventDefault();
  act();
});

const dark = matchMedia('(prefers-color-scheme: dark)');
dark.addEventListener('change', () => theme(dark.matches));
theme(dark.matches);
const wanted = new URLSearchParams(location.search).get('view');
if (wanted && Object.hasOwn(VIEWS, wanted)) view(wanted);
// A running server ignores the query. For a recorded run, the query selects the first part.
timeline.isLoading = true;
connect('?from=' + (Number(location.hash.slice(1)) || 0) + '&count=' + CHUNK + '&speed=1000');
