/* A clock that a test sets: what it differs by from the machine's, in seconds, is the first number in the file TEST_CLOCK;
   the second is what it differed by when somebody last asked. Intervals stay true. Preloaded into a process; it needs no header. */

extern void *dlsym(void *, const char *);
extern char *getenv(const char *);
extern int open(const char *, int, ...);
extern void *mmap(void *, unsigned long, int, int, int, long);

struct spec { long seconds, rest; };

static long none[2], *offset = none;
static int (*real)(int, struct spec *);

__attribute__((constructor)) static void begin(void) {
    real = dlsym((void *)-1, "clock_gettime");
    long *shared = mmap(0, 16, 3, 1, open(getenv("TEST_CLOCK"), 2), 0);
    if (shared != (long *)-1) offset = shared;
}

int clock_gettime(int clock, struct spec *told) {
    if (!real) begin();
    int failed = real(clock, told);
    if (!failed && (clock == 0 || clock == 5)) told->seconds += offset[1] = offset[0];
    return failed;
}

int gettimeofday(struct spec *told, void *zone) {
    int failed = clock_gettime(0, told);
    told->rest /= 1000;
    return failed;
}

long time(long *told) {
    struct spec now;
    clock_gettime(0, &now);
    if (told) *told = now.seconds;
    return now.seconds;
}
