package realcyrus

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	// AdminUser is the administrator of a private server, Password everybody's password.
	AdminUser = "cyrus"
	Password  = "x"

	readyMax = 30 * time.Second
	stopMax  = 10 * time.Second
)

// Server is a private Cyrus that listens on loopback and works on its Store.
type Server struct {
	*Store
	// Addr is where IMAP is spoken, as host:port.
	Addr string

	master *exec.Cmd
	exited chan struct{}
	log    *lockedBuffer
	once   sync.Once
}

// StartServer makes a store, starts a server on it and waits until one can log in. It is stopped at the end of the
// test at the latest. Call [NeedServer] before.
func StartServer(t testing.TB, o Options) *Server {
	t.Helper()
	return StartServerOn(t, NewStore(t, o))
}

// StartServerOn starts a server on an existing store, such as a copy or one that mailspine has repaired.
func StartServerOn(t testing.TB, store *Store) *Server {
	t.Helper()
	var err error
	// Another process may take the free port between our look and the server's: then take another.
	for range 3 {
		s := &Server{Store: store}
		if err = s.start(); err == nil {
			t.Cleanup(func() {
				if err := s.Stop(); err != nil {
					t.Error(err)
				}
				if t.Failed() {
					t.Logf("the server's log:\n%s", s.lastWords())
				}
			})
			return s
		}
		if stopErr := s.Stop(); stopErr != nil {
			t.Fatal(errors.Join(err, stopErr))
		}
	}
	t.Fatal(err)
	return nil
}

// start writes cyrus.conf, starts the master process and waits until the administrator can log in.
func (s *Server) start() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.Addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	// The brace must end its line and each entry have its own, or the master exits 78 without a word.
	text := fmt.Sprintf(`START {
  recover cmd="ctl_cyrusdb -C %[1]s -r"
}
SERVICES {
  imap cmd="imapd -C %[1]s" listen="%[2]s" prefork=1
  lmtpunix cmd="lmtpd -C %[1]s -a" listen="%[3]s/run/lmtp" prefork=0
}
EVENTS {
  checkpoint cmd="ctl_cyrusdb -C %[1]s -c" period=30
}
`, s.Conf, s.Addr, s.Dir)
	conf := filepath.Join(s.Dir, "cyrus.conf")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return err
	}
	if err := s.AddUser(AdminUser); err != nil {
		return err
	}
	path, err := Program("master")
	if err != nil {
		return err
	}
	// In the foreground, in a process group of its own: on SIGTERM the master signals its whole group.
	s.log = &lockedBuffer{}
	s.master = exec.Command(path, "-C", s.Conf, "-M", conf, "-p", filepath.Join(s.Dir, "run", "master.pid"), "-D")
	s.master.Dir = "/"
	s.master.Stdout, s.master.Stderr = s.log, s.log
	s.master.WaitDelay = stopMax
	s.master.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.keepLog(s.master); err != nil {
		return err
	}
	if err := s.master.Start(); err != nil {
		return fmt.Errorf("start the master process: %w", err)
	}
	s.exited = make(chan struct{})
	go func() {
		s.master.Wait()
		close(s.exited)
	}()
	return s.waitReady()
}

// waitReady tries to log in until it works.
func (s *Server) waitReady() error {
	for deadline := time.Now().Add(readyMax); ; {
		select {
		case <-s.exited:
			return fmt.Errorf("the master process ended at once: %v\n%s", s.master.ProcessState, s.log)
		case <-time.After(20 * time.Millisecond):
		}
		c, err := s.Login(AdminUser)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server is not ready after %v: %w\n%s", readyMax, err, s.log)
		}
	}
}

// Login opens an IMAP session for a user.
func (s *Server) Login(user string) (*Client, error) {
	c, err := DialIMAP(s.Addr)
	if err != nil {
		return nil, err
	}
	if _, err := c.Cmd("LOGIN %s %s", Quote(user), Quote(Password)); err != nil {
		c.conn.Close()
		return nil, err
	}
	return c, nil
}

// Dial is [Server.Login] for tests: it fails the test, and closes the session at its end.
func (s *Server) Dial(t testing.TB, user string) *Client {
	t.Helper()
	c, err := s.Login(user)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.conn.Close() })
	return c
}

// AddUser gives a user the right to log in. "user@domain" is a user of a virtual domain.
func (s *Server) AddUser(name string) error {
	user, realm, ok := strings.Cut(name, "@")
	if !ok {
		realm = serverName
	}
	db := filepath.Join(s.Dir, "sasl", "sasldb2")
	cmd := exec.Command("saslpasswd2", "-p", "-c", "-f", db, "-u", realm, user)
	cmd.Stdin = strings.NewReader(Password)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("saslpasswd2: %w\n%s", err, out)
	}
	return own(filepath.Dir(db))
}

// Stop ends the server and waits until none of its processes is left. It may be called more than once.
func (s *Server) Stop() error {
	var err error
	s.once.Do(func() {
		if s.exited != nil {
			err = s.stop(syscall.SIGTERM)
		}
	})
	return err
}

// Kill ends all processes of the server with SIGKILL, as a crash would.
func (s *Server) Kill() error {
	var err error
	s.once.Do(func() { err = s.stop(syscall.SIGKILL) })
	return err
}

// stop sends the signal to the server's process group and sees that all processes end.
func (s *Server) stop(signal syscall.Signal) error {
	syscall.Kill(-s.master.Process.Pid, signal)
	deadline := time.After(stopMax)
	select {
	case <-s.exited:
	case <-deadline:
	}
	// Children notice the end of their master only when idle: give them a moment, then no choice.
	for limit := time.Now().Add(stopMax); ; {
		left := s.Processes()
		if len(left) == 0 {
			break
		}
		if time.Now().After(limit) {
			return fmt.Errorf("processes %v of the server are left", left)
		}
		if time.Until(limit) < stopMax-2*time.Second {
			for _, pid := range left {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	<-s.exited
	return nil
}

// Processes lists the processes that work on this store: those whose command line names its imapd.conf.
func (s *Store) Processes() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(append(line, 0), []byte("\x00"+s.Conf+"\x00")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// freePort finds a TCP port that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// lockedBuffer collects output that may be read while it grows.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
