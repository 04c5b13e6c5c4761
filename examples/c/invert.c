/* A changeover plugin in C, without libraries: answers a job with its first argument, every byte
 * of binary data in it inverted. A Frame comes back as the same Frame with a negative picture.
 *
 *     cc -O2 -o invert invert.c          and in changeover.toml:   [plugins.invert]
 *                                                                  command = ["./invert"]
 *
 * It owes what every worker owes: MessagePack from stdin to stdout and nothing else on stdout;
 * answers to `hello`, `job` and, with -32601, any other request; to leave at the end of input. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char *in; /* the message under way, its binary data inverted already */
static size_t used, room;

static unsigned char *take(size_t n) { /* n bytes more; leaves at the end of input */
    if (n > room - used && !(in = realloc(in, room = 2 * used + n + 4096))) exit(1);
    if (fread(in + used, 1, n, stdin) < n) exit(0);
    return in + (used += n) - n;
}

static size_t number(int bytes) { /* big-endian */
    size_t n = 0;
    for (unsigned char *at = take(bytes); bytes--; at++) n = n << 8 | *at;
    return n;
}

static void values(size_t left) { /* walk over so many values and all that is in them */
    for (; left; left--) {
        unsigned char b = *take(1);
        if (b >= 0x80 && b <= 0x8f) left += 2 * (b & 15);                   /* map */
        else if (b >= 0x90 && b <= 0x9f) left += b & 15;                    /* array */
        else if (b >= 0xa0 && b <= 0xbf) take(b & 31);                      /* str */
        else if (b >= 0xc4 && b <= 0xc6) {                                  /* bin */
            size_t n = number(1 << (b - 0xc4));
            for (unsigned char *at = take(n), *end = at + n; at < end; at++) *at = 255 - *at;
        } else if (b >= 0xc7 && b <= 0xc9) take(number(1 << (b - 0xc7)) + 1); /* ext */
        else if (b >= 0xca && b <= 0xcb) take(4 << (b - 0xca));             /* float */
        else if (b >= 0xcc && b <= 0xd3) take(1 << (b & 3));                /* uint, int */
        else if (b >= 0xd4 && b <= 0xd8) take((1 << (b - 0xd4)) + 1);       /* fixext */
        else if (b >= 0xd9 && b <= 0xdb) take(number(1 << (b - 0xd9)));     /* str */
        else if (b >= 0xdc && b <= 0xdd) left += number(2 << (b - 0xdc));   /* array */
        else if (b == 0xde || b == 0xdf) left += 2 * number(2 << (b - 0xde)); /* map */
    }
}

static size_t array(void) { /* the header of one: how many values follow */
    unsigned char b = *take(1);
    return b == 0xdc ? number(2) : b == 0xdd ? number(4) : b & 15;
}

static int is(size_t at, const char *word) { /* is the str that begins there this one? */
    return in[at] == (0xa0 | strlen(word)) && !memcmp(in + at + 1, word, strlen(word));
}

#define PUT(text) fwrite(text, 1, sizeof(text) - 1, stdout)

int main(void) {
    for (;; fflush(stdout), used = 0) {
        size_t fields = array(), kind = number(1), id = used, method, run = 0, from = 0, to = 0;
        if (fields == 4) values(1);
        method = used, values(1);
        if (kind == 1) { values(1); continue; } /* a response: we asked for nothing */
        size_t params = array();
        if (is(method, "job") && params >= 3) { /* job, method, args, options */
            values(1), run = used, values(1);
            int first = ungetc(getchar(), stdin);
            size_t args = (first & 0xf0) == 0x90 || first == 0xdc || first == 0xdd ? array() : 1;
            from = used, values(args > 0), to = used, values(args > 1 ? args - 1 : 0), params -= 3;
        }
        values(params);
        if (kind == 2 && is(method, "exit")) return 0;
        if (kind == 2) continue; /* any other notification */
        PUT("\x94\x01"), fwrite(in + id, 1, method - id, stdout);
        if (is(method, "hello"))
            PUT("\xc0\x86\xa8protocol\x01\xa4name\xa6invert\xa7version\xa5" "1.0.0"
                "\xa7methods\x81\xa3run\x81\xa4pure\xc3\xab" "concurrency\x01\xac" "capabilities\x80");
        else if (run && is(run, "run"))
            to > from ? PUT("\xc0"), fwrite(in + from, 1, to - from, stdout) : PUT("\xc0\xc0");
        else
            PUT("\x93\xd1\x80\xa7\xb9" "no such request or method\x80\xc0");
    }
}
