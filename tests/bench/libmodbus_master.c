/* A bare libmodbus master for the bench: reads the same registers of the same meters, round after round.
 *
 *     libmodbus_master DEVICE BAUD PARITY SECONDS GAP_NS UNITS FUNCTION ADDRESS COUNT [ADDRESS COUNT ...]
 *
 * GAP_NS 0: as the library comes. Otherwise it keeps so long a silence after each answer, to the nanosecond. */
#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv) {
    if (argc < 10) return 2;
    modbus_t *bus = modbus_new_rtu(argv[1], atoi(argv[2]), argv[3][0], 8, 1);
    double seconds = atof(argv[4]);
    long long gap = atoll(argv[5]);
    int units = atoi(argv[6]);
    uint16_t words[125];
    unsigned long reads = 0, failed = 0;
    if (!bus || modbus_connect(bus)) {
        fprintf(stderr, "%s\n", modbus_strerror(errno));
        return 1;
    }
    modbus_set_response_timeout(bus, 0, 100000);
    long long end = now_ns() + (long long)(seconds * 1e9), last = now_ns();
    while (now_ns() < end) {
        for (int unit = 1; unit <= units; unit++) {
            for (int at = 8; at + 1 < argc; at += 2) {
                if (gap) {
                    long long until = last + gap;
                    struct timespec t = {until / 1000000000LL, until % 1000000000LL};
                    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
                }
                modbus_set_slave(bus, unit);
                int address = atoi(argv[at]), count = atoi(argv[at + 1]);
                int got = atoi(argv[7]) == 3 ? modbus_read_registers(bus, address, count, words)
                                             : modbus_read_input_registers(bus, address, count, words);
                last = now_ns();
                if (got == count) reads++;
                else failed++;
            }
        }
    }
    printf("%lu %lu\n", reads, failed);
    modbus_close(bus);
    modbus_free(bus);
    return 0;
}
