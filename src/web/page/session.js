// The session: connects and reconnects the WebSocket, logs in, and matches each reply with its
// request. It knows nothing of the page; it calls the functions of `listener`. What it remembers
// (the name, the rooms) changes when the server has answered, never when a request is sent.

const FULL_PAUSE = 2000;
const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 30000;
// A server needs up to four minutes to detect a dead connection. Until then, the name is in use.
const NAME_PAUSE = 10000;
const NAME_TRIES = 25;
const PONG_WITHIN = 5000;
const HISTORY_PAGE = 100;

const ENDS = {
  'IDLE TIMEOUT': 'The server disconnected you because you were idle for too long.',
  'TOTAL TIME TIMEOUT': 'The server disconnected you because you reached its maximum connection time.',
  'TOO SLOW': 'The server disconnected you because your browser received its messages too slowly.',
  'TAKEN OVER': 'You are using this name in another window or program.',
  KICKED: 'You were removed.',
  SHUTDOWN: 'The server is shutting down.',
};

// Requests that the server does not answer if they succeed. The answer to the next request shows
// that they did.
const SILENT = ['CHAT', 'ORDER', 'INVITATION'];

/** Describes the rules of a room. */
function rulesOf({ room, access, isModerated, moderators }) {
  return `${room}: ${access}${isModerated ? ', moderated' : ''}; moderators: ${moderators.join(', ') || 'none'}.`;
}

class Session {
  constructor(listener) {
    this.listener = listener;
    this.socket = null;
    this.link = 0; // number of connections so far
    this.isIn = false; // true after the welcome
    this.seat = null;
    this.max = 8192; // maximum length of a document, in bytes
    this.name = null; // the name on this connection, after the login
    this.isModerator = false;
    this.identity = null; // { name, token, password }: what logged in last, for reconnects
    this.attempt = null; // { name, password }: a login that has not been answered yet
    this.inRooms = new Map(); // the rooms that the server has confirmed, by key
    this.partner = null; // { label, arrival }
    this.arrivals = 0;
    this.presenceTold = false;
    this.requests = []; // requests without a reply yet, in order
    this.page = null; // a page of history that is arriving
    this.end = null; // the server's reason for closing the connection
    this.tries = 0; // number of FULL replies in a row
    this.pause = FIRST_PAUSE;
    this.timer = null;
    this.nameTries = 0;
    this.idleSoon = false;
    this.lostAt = null;
    this.isLeaving = false;
    this.isLoggingOut = false;
  }

  // --- the connection

  connect() {
    clearTimeout(this.timer);
    this.timer = null;
    this.isLeaving = false;
    this.end = null;
    this.elsewhere = null;
    this.link += 1;
    const link = this.link;
    // Relative to the page, which may be below a path of a proxy.
    const url = new URL('chat', location.href);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.hash = '';
    const socket = new WebSocket(url);
    this.socket = socket;
    this.listener.state({ text: this.tries ? 'Requesting a seat again…' : 'Connecting…' });
    socket.onmessage = (event) => {
      if (link === this.link) this.heard(String(event.data));
    };
    socket.onclose = (event) => {
      if (link === this.link) this.lost(event);
    };
  }

  lost(event) {
    const wasIn = this.isIn;
    const requests = this.requests;
    this.socket = null;
    this.isIn = false;
    this.name = null;
    this.partner = null;
    this.presenceTold = false;
    this.inRooms.clear();
    this.idleSoon = false;
    this.requests = [];
    this.page = null;
    if (wasIn && !this.lostAt) this.lostAt = Date.now();
    // A message without a reply may have been delivered or not.
    for (const request of requests) request.lost?.();
    this.listener.disconnected();
    if (this.isLoggingOut) {
      this.isLoggingOut = false;
      this.lostAt = null;
      this.connect();
      return;
    }
    if (this.end === 'FULL') {
      this.tries += 1;
      const more = this.elsewhere ? ' Another server in this chat has free seats:' : '';
      this.listener.state({
        text: `The server is full (attempt ${this.tries}). Retrying in 2 s.${more}`,
        isLost: true,
        elsewhere: this.elsewhere,
      });
      this.timer = setTimeout(() => this.connect(), FULL_PAUSE);
      return;
    }
    this.tries = 0;
    const why = this.end ? ENDS[this.end] || this.end : closed(event.code, event.reason);
    if (this.isLeaving || (this.end && this.end !== 'SHUTDOWN' && this.end !== 'TOO SLOW')) {
      const text = this.isLeaving ? 'You disconnected.' : why;
      this.listener.state({ text, isLost: true, action: this.end === 'TAKEN OVER' ? 'Use it here' : 'Reconnect' });
      return;
    }
    // Random, so that a class that has lost its server does not reconnect at the same moment.
    const wait = this.pause * (1 + Math.random() / 4);
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    this.listener.state({ text: `${why} Reconnecting soon.`, isLost: true, action: 'Reconnect now' });
    this.timer = setTimeout(() => this.connect(), wait);
  }

  /** Reconnects at once, because the user or the page has become active. */
  comeBack() {
    if (!this.socket) this.connect();
  }

  /** Tests the connection: a socket that a sleeping phone has closed still looks open. */
  test() {
    if (!this.isIn) return;
    const link = this.link;
    let isAnswered = false;
    this.request('PING', documents.command('PING'), {
      done: () => {
        isAnswered = true;
      },
    });
    setTimeout(() => {
      if (link !== this.link || isAnswered || !this.socket) return;
      this.socket.onclose = null;
      this.socket.close();
      this.lost({ code: 1006, reason: '' });
      this.comeBack();
    }, PONG_WITHIN);
  }

  leave() {
    this.isLeaving = true;
    clearTimeout(this.timer);
    if (this.socket && this.isIn) this.write(documents.command('TERMINATE'));
    else if (this.socket) this.socket.close();
    else this.listener.state({ text: 'You disconnected.', isLost: true, action: 'Reconnect' });
  }

  write(text) {
    this.socket.send(text);
    this.listener.travelled('out', text);
  }

  /**
   * Sends a request. `done(reply)` is called with the reply, `failed(code, sentence)` with an error,
   * and `lost()` if the connection ends before.
   */
  request(kind, text, calls) {
    if (!this.isIn) {
      calls?.lost?.();
      return;
    }
    this.requests.push({ kind, ...calls });
    this.write(text);
    if (SILENT.includes(kind) && kind !== 'INVITATION') this.request('PING', documents.command('PING'));
  }

  // --- documents from the server

  heard(text) {
    const said = documents.read(text);
    this.listener.travelled('in', text);
    if (!said) return;
    switch (said.kind) {
      case 'ticket':
        // Answer at once, because the passcode expires soon.
        this.write(documents.handshake(said.passcode));
        break;
      case 'FULL':
        this.end = 'FULL';
        this.elsewhere = said.elsewhere;
        break;
      case 'welcome':
        this.welcomed(said);
        break;
      case 'PARTNER JOINED':
        this.arrivals += 1;
        this.presenceTold = true;
        this.partner = { label: said.partner, arrival: this.arrivals };
        this.listener.partner(this.partner.label, true);
        break;
      case 'PARTNER LEFT':
        this.partner = null;
        this.listener.partner(said.partner, false);
        break;
      case 'NO PARTNER':
        if (this.presenceTold) this.refuse('NO PARTNER', 'you have no partner');
        this.presenceTold = true;
        this.partner = null;
        this.listener.changed();
        break;
      case 'PASSWORD':
        this.replied('LOGIN', said);
        break;
      case 'WELCOME':
        this.loggedIn(said);
        break;
      case 'TOKEN':
      case 'SENT':
      case 'WHO':
      case 'MEMBERS':
      case 'ROOMS':
      case 'PASSWD':
        this.replied(said.kind, said);
        break;
      case 'PONG':
        this.replied('PING', said);
        break;
      case 'JOINED':
        this.inRooms.set(said.room.toLowerCase(), said.room);
        this.replied('JOIN', said);
        this.listener.joined(said.room);
        break;
      case 'LEFT':
        this.inRooms.delete(said.room.toLowerCase());
        this.replied('LEAVE', said);
        this.listener.left(said.room);
        if (said.by)
          this.listener.notice(`${said.by} removed you from ${said.room}${said.reason ? `: ${said.reason}` : '.'}`);
        break;
      case 'ROOM':
        this.listener.notice(rulesOf(said));
        break;
      case 'INVITED':
        this.listener.invited(said);
        break;
      case 'HISTORY':
        this.beginPage(said);
        break;
      case 'TOPIC':
        if (this.requests[0]?.kind === 'TOPIC') this.replied('TOPIC', said);
        this.listener.topic(said);
        break;
      case 'ROOM JOINED':
        this.listener.member(said.room, said.username, true);
        break;
      case 'ROOM LEFT':
        this.listener.member(said.room, said.username, false);
        break;
      case 'USER JOINED':
        this.listener.person(said.username, true);
        break;
      case 'USER LEFT':
        this.listener.person(said.username, false);
        break;
      case 'IDLE SOON':
        this.idleSoon = true;
        this.listener.notice(
          `You have been idle. To stay, touch the page or press a key within ${said.seconds} s.`,
        );
        break;
      case 'said':
        this.message(said);
        break;
      case 'notice':
        this.listener.notice(said.text);
        break;
      case 'KICKED':
        this.end = said.by ? `The moderator ${said.by} removed you.` : 'The operator removed you.';
        if (said.reason) this.end += ` Reason: ${said.reason}`;
        break;
      case 'error':
        // After this one, the server closes the connection.
        if (said.code === 'banned') this.end = sentenceOf(said.sentence);
        else if (!this.refuse(said.code, said.sentence)) this.listener.trouble(sentenceOf(said.sentence));
        break;
      default:
        if (Object.hasOwn(ENDS, said.kind)) this.end = said.kind;
    }
  }

  message(said) {
    if (said.old && this.page) {
      this.page.messages.push(said);
      if (this.page.messages.length >= this.page.count) this.endPage();
      return;
    }
    // The partner may have logged in since it joined, so its label may be new.
    if (said.scope === 'partner' && this.partner && this.partner.label !== said.from) {
      this.partner.label = said.from;
      this.listener.changed();
    }
    this.listener.said(said);
  }

  /** Completes the oldest request of this kind, and the silent ones before it. */
  replied(kind, reply) {
    const at = this.requests.findIndex((request) => request.kind === kind);
    if (at < 0) return;
    const completed = this.requests.splice(0, at + 1);
    for (const before of completed.slice(0, -1)) if (SILENT.includes(before.kind)) before.done?.();
    completed.at(-1).done?.(reply);
  }

  /** Fails the oldest request, which an error answers. Returns whether the request handles it. */
  refuse(code, sentence) {
    const request = this.requests.shift();
    if (!request?.failed) return false;
    request.failed(code, sentence);
    return true;
  }

  welcomed(said) {
    this.isIn = true;
    this.max = said.max;
    this.tries = 0;
    this.pause = FIRST_PAUSE;
    this.seat = said.seat || said.port;
    this.nameTries = 0;
    const away = this.lostAt && Math.round((Date.now() - this.lostAt) / 1000);
    this.lostAt = null;
    this.listener.welcomed(away);
    if (this.identity) this.resume();
    else this.listener.askName();
  }

  // --- names

  /** Logs in as before: with the token if there is one, otherwise with the password. */
  resume() {
    const { name, token, password } = this.identity;
    if (!token) {
      this.login(name, password);
      return;
    }
    this.attempt = { name, token };
    this.request('RESUME', documents.command('RESUME', { username: name, token }), {
      failed: (code, sentence) => {
        if (code === 'unreachable') {
          this.loginLater(() => this.resume());
          return;
        }
        this.identity = password ? { name, token: null, password } : null;
        // Without passwords, the name may be free.
        if (this.listener.tokenEnded() || password) this.login(name, password);
        else this.listener.askName(sentenceOf(sentence), name);
      },
    });
  }

  /** Claims a name. With a password, proves it as soon as the server asks for it. */
  login(name, password = null) {
    this.attempt = { name, password };
    this.request('LOGIN', documents.command('LOGIN', { username: name }), {
      done: (reply) => {
        // A password that was typed for an existing account must not become a new account's.
        if (reply?.kind !== 'PASSWORD') return;
        if (password !== null && !reply.isNew) this.prove(password);
        else this.listener.askPassword(name, reply.isNew);
      },
      failed: (code, sentence) => this.loginRefused(name, code, sentence),
    });
  }

  /** Sends a password for the name that the server has asked about. */
  prove(password) {
    if (!this.attempt) return;
    const { name } = this.attempt;
    this.attempt = { name, password };
    this.request('PASSWORD', documents.command('PASSWORD', { password }), {
      failed: (code, sentence) => {
        if (this.identity?.name === name && code === 'wrong-password') this.identity = null;
        if (['registration-closed', 'invitation-needed', 'bad-invitation'].includes(code))
          this.loginRefused(name, code, sentence);
        else this.listener.askPassword(name, code === 'bad-password', sentenceOf(sentence));
      },
    });
  }

  loginRefused(name, code, sentence) {
    const isOurs = this.identity?.name.toLowerCase() === name.toLowerCase();
    if ((code === 'name-in-use' || code === 'unreachable') && isOurs && this.nameTries < NAME_TRIES) {
      this.nameTries += 1;
      if (this.nameTries === 1)
        this.listener.notice(
          `Your old connection still uses the name ${name}. Retrying for up to 4 minutes.`,
        );
      this.loginLater(() => this.login(name, this.identity.password));
      return;
    }
    if (code === 'invitation-needed' || code === 'bad-invitation')
      this.listener.askInvitation(name, code === 'bad-invitation');
    else this.listener.askName(sentenceOf(sentence), name);
  }

  loginLater(action) {
    const link = this.link;
    setTimeout(() => {
      if (link === this.link && this.isIn && !this.name && this.identity) action();
    }, NAME_PAUSE);
  }

  /** Uses an invitation, and then claims the name again. */
  invite(code, name) {
    this.request('INVITATION', documents.command('INVITATION', { code }), {
      failed: (why, sentence) => {
        if (name) this.listener.askInvitation(name, true);
        else this.listener.trouble(sentenceOf(sentence));
      },
    });
    if (name) this.login(name);
    else this.request('PING', documents.command('PING'));
  }

  loggedIn({ username, isModerator }) {
    const { token = null, password = null } = this.attempt || {};
    this.attempt = null;
    this.name = username;
    this.isModerator = isModerator;
    this.identity = { name: username, token, password };
    this.nameTries = 0;
    const first = this.requests.find((request) => ['LOGIN', 'PASSWORD', 'RESUME'].includes(request.kind));
    if (first) this.replied(first.kind, { kind: 'WELCOME' });
    if (!token) this.requestToken();
    this.listener.loggedIn(username);
  }

  /** Requests a token for the next connections, so that no password has to be kept. */
  requestToken() {
    const { name } = this.identity;
    this.request('TOKEN', documents.command('TOKEN'), {
      done: ({ token }) => {
        this.identity = { name, token, password: null };
        this.listener.tokenIssued(name, token);
      },
      // The password, which is kept in memory, serves until the page is closed.
      failed: () => {},
    });
  }

  changePassword(old, next, calls) {
    this.request('PASSWD', documents.command('PASSWD', { old, new: next }), {
      ...calls,
      done: () => {
        // It has ended every token of the name.
        this.identity = { name: this.name, token: null, password: next };
        this.requestToken();
        calls.done();
      },
    });
  }

  /** Ends the token and the session. The page then connects without a name. */
  logout() {
    const token = this.identity?.token;
    this.identity = null;
    this.isLoggingOut = true;
    clearTimeout(this.timer);
    if (this.isIn && this.name && token) this.write(documents.command('LOGOUT', { token }));
    else if (this.socket) this.socket.close();
    else this.lost({ code: 1000, reason: '' });
  }

  // --- messages and requests

  /** Sends a message to a conversation. `calls` learns what became of it. */
  send(conversation, text, me, calls) {
    const { kind, name } = conversation;
    if (kind === 'partner') this.request('CHAT', documents.message(text, me), calls);
    else if (kind === 'everyone') this.request('SENT', documents.command('PM', { message: text }, me), calls);
    else if (kind === 'person') this.request('SENT', documents.command('DM', { to: name, message: text }, me), calls);
    else this.request('SENT', documents.command('SAY', { room: name, message: text }, me), calls);
  }

  join(room, calls, password = null) {
    this.request('JOIN', documents.command('JOIN', { room, here: true, password }), {
      failed: (code, sentence) => {
        // A second JOIN on a slow connection: the client is in the room.
        if (code === 'already-member') this.listener.joined(this.inRooms.get(room.toLowerCase()) ?? room);
        else if (calls?.failed) calls.failed(code, sentence);
        else this.listener.trouble(sentenceOf(sentence));
      },
    });
  }

  leaveRoom(room) {
    this.request('LEAVE', documents.command('LEAVE', { room }));
  }

  topic(room, topic) {
    this.request('TOPIC', documents.command('TOPIC', { room, topic }));
  }

  /** Requests the names of all who are logged in, or of a room's members. */
  who(room, done) {
    this.request(room ? 'MEMBERS' : 'WHO', documents.command(room ? 'MEMBERS' : 'WHO', { room }), {
      done: ({ users }) => done(users),
      failed: () => {},
    });
  }

  listRooms(done) {
    this.request('ROOMS', documents.command('ROOMS'), { done: ({ rooms }) => done(rooms) });
  }

  /** Sends a command of a moderator, or a report. The server answers with a notice or an error. */
  order(command, parts) {
    this.request('ORDER', documents.command(command, parts));
  }

  /** Requests old messages. `calls.done(messages, more)` gets them, oldest first. */
  history(conversation, { before, after, count = HISTORY_PAGE }, calls) {
    const { kind, name } = conversation;
    const parts = { room: kind === 'room' ? name : null, with: kind === 'person' ? name : null, before, after, count };
    this.request('HISTORY', documents.command('HISTORY', parts), calls);
  }

  beginPage({ count, more }) {
    const at = this.requests.findIndex((request) => request.kind === 'HISTORY');
    const request = this.requests[at];
    this.replied('HISTORY', null);
    this.page = { request, count, more, messages: [] };
    if (!count) this.endPage();
  }

  endPage() {
    const { request, messages, more } = this.page;
    this.page = null;
    request?.page?.(messages, more);
  }

  /** Handles a touch or a key: after an idle warning, it keeps the seat. */
  touched() {
    if (!this.idleSoon || !this.isIn) return;
    this.idleSoon = false;
    this.write(documents.command('STAY'));
  }
}

/** Makes a sentence of an error's text. */
function sentenceOf(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;
}

/** Explains a WebSocket close code to the user. */
function closed(code, reason) {
  const words = {
    1000: 'The session has ended.',
    1001: 'The server is shutting down.',
    1002: 'The server rejected invalid data from this browser.',
    1006: 'The connection was lost.',
    1008: 'The server ended the session.',
    1009: 'The message was too long for the server.',
    1013: 'The server is full.',
  };
  return reason || words[code] || `The connection was lost (code ${code}).`;
}
