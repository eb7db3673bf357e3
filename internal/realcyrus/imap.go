package realcyrus

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// commandMax is how long the server may take to answer one command.
const commandMax = time.Minute

// literalMax bounds what a literal of the server may occupy here.
const literalMax = 64 << 20

// Client is a small IMAP client: one command at a time, answers as text.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
	tag  int
	// Status is the tagged answer to the last command, such as "OK [APPENDUID 7 1] Completed".
	Status string
}

// DialIMAP connects and reads the greeting.
func DialIMAP(addr string) (*Client, error) {
	conn, err := net.DialTimeout("tcp", addr, commandMax)
	if err != nil {
		return nil, err
	}
	c := &Client{conn: conn, r: bufio.NewReader(conn)}
	conn.SetDeadline(time.Now().Add(commandMax))
	line, err := c.line()
	if err == nil && !strings.HasPrefix(line, "* OK") {
		err = fmt.Errorf("greeting %q", line)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return c, nil
}

// Cmd sends a command line and returns the untagged answers, each as one string with its literals inside. Arguments
// are formatted as by fmt; use [Quote] for strings. An answer other than OK is an error with its text.
func (c *Client) Cmd(format string, args ...any) ([]string, error) {
	return c.send(fmt.Sprintf(format, args...), nil)
}

// Append stores a message. Its line ends must be CRLF; flags may be empty and date the zero time.
func (c *Client) Append(mailbox, flags string, date time.Time, message []byte) error {
	command := "APPEND " + Quote(mailbox)
	if flags != "" {
		command += " (" + flags + ")"
	}
	if !date.IsZero() {
		command += " " + Quote(date.Format("_2-Jan-2006 15:04:05 -0700"))
	}
	_, err := c.send(command, message)
	return err
}

// Close ends the session.
func (c *Client) Close() error {
	_, err := c.Cmd("LOGOUT")
	if closeErr := c.conn.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Quote makes a quoted string of s, which must not contain line ends.
func Quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// send sends a command, with a literal at its end unless that is nil, and collects the answers.
func (c *Client) send(command string, literal []byte) ([]string, error) {
	c.tag++
	tag := fmt.Sprintf("a%d", c.tag)
	c.conn.SetDeadline(time.Now().Add(commandMax))
	text := tag + " " + command
	if literal != nil {
		// The literal waits for the server's consent: a server that refuses the command may take it for the next one.
		text += fmt.Sprintf(" {%d}", len(literal))
	}
	if _, err := io.WriteString(c.conn, text+"\r\n"); err != nil {
		return nil, fmt.Errorf("send %s: %w", verb(command), err)
	}
	var answers []string
	for {
		line, err := c.line()
		if err != nil {
			return answers, fmt.Errorf("answer to %s: %w", verb(command), err)
		}
		if literal != nil && strings.HasPrefix(line, "+") {
			if _, err := fmt.Fprintf(c.conn, "%s\r\n", literal); err != nil {
				return answers, fmt.Errorf("send %s: %w", verb(command), err)
			}
			literal = nil
			continue
		}
		if untagged, ok := strings.CutPrefix(line, "* "); ok {
			answers = append(answers, untagged)
			continue
		}
		status, ok := strings.CutPrefix(line, tag+" ")
		if !ok {
			return answers, fmt.Errorf("answer to %s: unexpected %q", verb(command), line)
		}
		c.Status = status
		if !strings.HasPrefix(status, "OK") {
			return answers, fmt.Errorf("%s: %s", verb(command), status)
		}
		return answers, nil
	}
}

// line reads one line with the literals in it.
func (c *Client) line() (string, error) {
	var all strings.Builder
	for {
		part, err := c.r.ReadString('\n')
		if err != nil {
			return all.String(), err
		}
		part = strings.TrimRight(part, "\r\n")
		all.WriteString(part)
		open := strings.LastIndexByte(part, '{')
		if open < 0 || !strings.HasSuffix(part, "}") {
			return all.String(), nil
		}
		size, err := strconv.Atoi(part[open+1 : len(part)-1])
		if err != nil {
			return all.String(), nil // Text that ends in braces.
		}
		if size < 0 || size > literalMax {
			return all.String(), fmt.Errorf("literal of %d bytes", size)
		}
		all.WriteString("\r\n")
		if _, err := io.CopyN(&all, c.r, int64(size)); err != nil {
			return all.String(), err
		}
	}
}

// verb is the first word of a command, which is all of it that error texts show.
func verb(command string) string {
	word, _, _ := strings.Cut(command, " ")
	return word
}
