'use strict';
// Documents: what travels over the WebSocket, one in each text message. See PROTOCOL, sections 1 to 11.

const documents = {
  /** What the server says, as an object with a `kind`; `null` if it is nothing that this page knows. */
  read(text) {
    const parsed = new DOMParser().parseFromString(text, 'text/xml');
    const root = parsed.documentElement;
    if (parsed.getElementsByTagName('parsererror').length) return null;
    const child = (name) => [...root.children].find((there) => there.tagName === name);
    const part = (name) => { const found = child(name); return found ? found.textContent : null; };
    // The page of another server, from an <elsewhere>: nothing but a page.
    const page = (there) => {
      const web = there && [...there.children].find((part) => part.tagName === 'web');
      return web && /^https?:\/\//.test(web.textContent) ? web.textContent : null;
    };
    const all = (name) => [...root.children].filter((there) => there.tagName === name);
    if (root.tagName === 'CLIENT') {
      return {
        kind: 'said', from: root.getAttribute('from') || '?', scope: root.getAttribute('scope') || 'partner',
        room: root.getAttribute('room'), text: part('message') || '', me: root.getAttribute('me') === 'yes',
        old: root.getAttribute('old') === 'yes', time: root.getAttribute('time'),
      };
    }
    if (root.tagName !== 'SERVER') return null;
    if (child('error')) return { kind: 'error', code: child('error').getAttribute('code') || '', sentence: part('error') };
    if (child('notice')) return { kind: 'notice', text: part('notice') };
    const command = (part('command') || '').trim();
    if (command) {
      return {
        kind: command, username: part('username'), room: part('room'), partner: part('partner'), reason: part('reason'),
        count: Number(part('count')), seconds: Number(part('seconds')), topic: part('topic'), isNew: part('account') === 'new',
        isHere: Boolean(child('here')), users: all('user').map((user) => user.textContent),
        elsewhere: page(child('elsewhere')),
        rooms: all('room').map((room) => ({ name: room.textContent, members: Number(room.getAttribute('members')) })),
      };
    }
    const max = Number(root.getAttribute('max')) || 8192;
    if (child('message')) {
      const isIn = part('message').trim() === 'Connection successful';
      return { kind: isIn ? 'welcome' : 'wrong-passcode', port: root.getAttribute('port'), seat: root.getAttribute('seat'), max };
    }
    const [port, passcode] = [part('Port'), part('HandshakePasscode')];
    return port && passcode ? { kind: 'ticket', port: port.trim(), passcode: passcode.trim() } : null;
  },

  /** Text as the content of an element. What XML has no way to say is left out. */
  escaped(text) {
    const names = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '\n': '&#10;', '\r': '&#13;', '\t': '&#9;' };
    const possible = text.toWellFormed ? text.toWellFormed() : text;
    // eslint-disable-next-line no-control-regex
    return possible.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '').replace(/[&<>\n\r\t]/g, (found) => names[found]);
  },

  /** A command with its parts, such as `command('DM', { to: 'bob', message: 'hello' })`. */
  command(name, parts, me) {
    const inside = Object.entries(parts || {}).map(([part, value]) =>
      value === true ? `<${part}/>` : `<${part}>${documents.escaped(value)}<` + `/${part}>`);
    return `<CLIENT${me ? " me='yes'" : ''}><command>${name}<` + `/command>${inside.join('')}<` + '/CLIENT>';
  },

  /** Chat for whoever sits beside. */
  message(text, me) {
    // What begins with % names its destination; nothing that is typed for the partner may do that by accident.
    const plain = text.startsWith('%') ? '%' + text : text;
    return `<CLIENT${me ? " me='yes'" : ''}><message>${documents.escaped(plain)}<` + '/message><' + '/CLIENT>';
  },

  handshake(passcode) {
    return `<CLIENT><HandshakePasscode>${documents.escaped(passcode)}<` + '/HandshakePasscode><' + '/CLIENT>';
  },

  /** How many bytes a document takes, which is what the server counts. */
  bytes(text) {
    return new TextEncoder().encode(text).length;
  },
};
