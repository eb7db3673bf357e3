/*
 * Loaded into the processes of a server, this appends to a file what they would tell the system's log, so that a test
 * that fails can show it: a machine that runs tests often has no such log, and it would be one for all servers. The
 * file is named by SERVER_LOG. Debug messages are left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static void keep(int priority, const char *format, va_list args)
{
    const char *path = getenv("SERVER_LOG");
    int at = errno, fd;
    char line[4096];
    size_t n = 0;
    struct timespec now;
    struct tm tm;

    if (!path || LOG_PRI(priority) >= LOG_DEBUG) return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    n += strftime(line, sizeof line, "%H:%M:%S", &tm);
    n += snprintf(line + n, sizeof line - n, ".%06ld %s[%d] %d: ", now.tv_nsec / 1000, program_invocation_short_name,
                  (int) getpid(), LOG_PRI(priority));
    errno = at; /* for %m */
    vsnprintf(line + n, sizeof line - n - 1, format, args);
    n = strlen(line);
    line[n++] = '\n';
    /* One write to a file opened for appending: lines of several processes do not mix. */
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0) {
        if (write(fd, line, n) < 0) { /* there is nobody to tell */ }
        close(fd);
    }
    errno = at;
}

void syslog(int priority, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    keep(priority, format, args);
    va_end(args);
}

void __syslog_chk(int priority, int flag, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    keep(priority, format, args);
    va_end(args);
}

void vsyslog(int priority, const char *format, va_list args)
{
    keep(priority, format, args);
}

void __vsyslog_chk(int priority, int flag, const char *format, va_list args)
{
    keep(priority, format, args);
}
