// What reaches the user outside the page: the title, and notifications.

class Alerts {
  constructor(store, calls) {
    this.store = store;
    this.calls = calls; // { opened(key), note(text) }
    this.worker = null;
    this.hasFailed = false;
    if (window.isSecureContext && 'serviceWorker' in navigator) {
      navigator.serviceWorker.register('service-worker.js').then(
        (worker) => {
          this.worker = worker;
        },
        () => {},
      );
      navigator.serviceWorker.addEventListener('message', (event) => {
        if (event.data?.open) this.calls.opened(event.data.open);
      });
    }
  }

  get isOn() {
    return this.store.get('notify', false) && 'Notification' in window && Notification.permission === 'granted';
  }

  /** Turns notifications on or off, and says why it can't. */
  async toggle() {
    if (this.isOn) {
      this.store.set('notify', false);
      toast('Notifications are off');
      return;
    }
    if (!window.isSecureContext) {
      this.calls.note('Browsers allow notifications only on https pages and on localhost.');
      return;
    }
    if (!('Notification' in window)) {
      this.calls.note(
        'This browser does not support notifications here. On an iPhone, add the page to the home screen first.',
      );
      return;
    }
    const answer = await Notification.requestPermission();
    this.store.set('notify', answer === 'granted');
    if (answer === 'granted') toast('You will be notified of private messages and mentions');
    else
      this.calls.note(
        'The browser blocks notifications from this page. You can change that in its settings.',
      );
  }

  /** Notifies the user, unless they are looking at the page. */
  notify(title, text, key) {
    const isLooking = document.visibilityState === 'visible' && document.hasFocus();
    if (isLooking || !this.isOn) return;
    const options = { body: text.slice(0, 200), tag: key, icon: 'icon-192.png', data: key };
    try {
      const made = new Notification(title, options);
      made.onclick = () => {
        window.focus();
        this.calls.opened(key);
        made.close();
      };
    } catch {
      // Browsers on Android leave notifications to the service worker.
      Promise.resolve(this.worker?.showNotification(title, options) ?? Promise.reject()).catch(() => {
        if (this.hasFailed) return;
        this.hasFailed = true;
        this.calls.note('This browser can’t show notifications for this page.');
      });
    }
  }

  title(unread, label, chat) {
    document.title = (unread ? `(${unread}) ` : '') + (label ? `${shown(label)} · ` : '') + chat;
    if (navigator.setAppBadge) (unread ? navigator.setAppBadge(unread) : navigator.clearAppBadge()).catch(() => {});
  }
}
