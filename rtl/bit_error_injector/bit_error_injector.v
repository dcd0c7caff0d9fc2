// Flips bits of the words that pass: bit i of word n if h(key, n, i) < threshold, so at the rate threshold / 2^32, from
// none to every bit. h is a pure function, so a stream may start at any position; words that are not approximate pass
// as they are, and have their place in the stream.
//
// (key, position) passes six rounds of additions, rotations and XOR, one per cycle (Chaskey's permutation). The four
// words it becomes are the coefficients of a cubic polynomial over GF(2^32), whose value at the point i is that of bit
// i: any four bits are independent. A sum of its halves is h. A word takes ROUNDS + 1 cycles.
//
// A setting is taken when no word is on its way; while one is offered no word is taken. DW is a power of two.
module bit_error_injector #(
    parameter integer DW = 64
) (
    input  wire                 clk,
    input  wire                 rst,

    input  wire                 cfg_valid,
    output wire                 cfg_ready,
    input  wire [63:0]          cfg_key,
    input  wire [32:0]          cfg_threshold,
    input  wire [63:0]          cfg_position,

    input  wire                 in_valid,
    output wire                 in_ready,
    input  wire [DW-1:0]        in_data,
    input  wire                 in_approx,

    output reg                  out_valid,
    input  wire                 out_ready,
    output reg  [DW-1:0]        out_data,

    output reg  [63:0]          position,
    output reg  [47:0]          cnt_words,
    output reg  [47:0]          cnt_approx,
    output reg  [47:0]          cnt_flips
);
    localparam ROUNDS = 6;
    localparam LB = $clog2(DW);
    localparam CW = $clog2(DW+1);
    localparam [31:0] NONZERO = 32'h9e3779b9;
    localparam [31:0] POLYNOMIAL = 32'h8d;   // x^32 + x^7 + x^3 + x^2 + 1 without its first term

    reg [63:0]            key;
    reg [32:0]            threshold;
    reg [ROUNDS-1:0]      valid, approx;
    reg [128*ROUNDS-1:0]  states;
    reg [DW*ROUNDS-1:0]   words;

    wire                  stall = out_valid && !out_ready;
    wire                  take  = in_valid && in_ready;
    wire                  leave = valid[ROUNDS-1] && !stall;
    wire [DW-1:0]         flips = leave && approx[ROUNDS-1] ? flipped(states[128*ROUNDS-1 -: 128], threshold) : {DW{1'b0}};

    assign cfg_ready = valid == {ROUNDS{1'b0}};
    assign in_ready  = !stall && !cfg_valid;

    function [127:0] mixed;   // one round on {d, c, b, a}
        input [127:0] state;
        reg   [31:0]  a, b, c, d;
        begin
            {d, c, b, a} = state;
            a = a + b;
            c = c + d;
            b = {b[26:0], b[31:27]} ^ a;
            d = {d[23:0], d[31:24]} ^ c;
            a = {a[15:0], a[31:16]} + d;
            c = c + b;
            b = {b[24:0], b[31:25]} ^ c;
            d = {d[18:0], d[31:19]} ^ a;
            c = {c[15:0], c[31:16]};
            mixed = {d, c, b, a};
        end
    endfunction

    function [31:0] times_x;
        input [31:0] word;
        times_x = {word[30:0], 1'b0} ^ (word[31] ? POLYNOMIAL : 32'd0);
    endfunction

    // Values at j + 2^k are those at j < 2^k, XOR words that all of them share, XOR one word per bit of j.
    function [DW-1:0] flipped;
        input [127:0]       state;
        input [32:0]        limit;
        reg   [32*LB-1:0]   times_b;
        reg   [64*LB-1:0]   times_c;
        reg   [96*LB-1:0]   times_d;
        reg   [32*DW-1:0]   value;
        reg   [16*DW-1:0]   change;
        reg   [31:0]        both, one;
        integer             i, j, k;
        begin
            times_b = {{(32*LB-32){1'b0}}, state[63:32]};
            times_c = {{(64*LB-32){1'b0}}, state[95:64]};
            times_d = {{(96*LB-32){1'b0}}, state[127:96]};
            for (i = 1; i < LB; i = i + 1) times_b[32*i +: 32] = times_x(times_b[32*i-32 +: 32]);
            for (i = 1; i < 2*LB; i = i + 1) times_c[32*i +: 32] = times_x(times_c[32*i-32 +: 32]);
            for (i = 1; i < 3*LB; i = i + 1) times_d[32*i +: 32] = times_x(times_d[32*i-32 +: 32]);
            value = {{(32*DW-32){1'b0}}, state[31:0]};
            change = {(16*DW){1'b0}};
            for (k = 0; k < LB; k = k + 1) begin
                change[31:0] = times_b[32*k +: 32] ^ times_c[64*k +: 32] ^ times_d[96*k +: 32];
                for (j = 0; j < k; j = j + 1) begin
                    both = times_d[32*k + 64*j +: 32] ^ times_d[64*k + 32*j +: 32];
                    for (i = 0; i < (1 << j); i = i + 1)
                        change[(32 << j) + 32*i +: 32] = change[32*i +: 32] ^ both;
                end
                for (i = 0; i < (1 << k); i = i + 1)
                    value[(32 << k) + 32*i +: 32] = value[32*i +: 32] ^ change[32*i +: 32];
            end
            for (i = 0; i < DW; i = i + 1) begin
                one = value[32*i +: 32];
                one[31:16] = one[31:16] + one[15:0];
                flipped[i] = {1'b0, one} < limit;
            end
        end
    endfunction

    function [CW-1:0] count;
        input [DW-1:0] bits;
        integer        i;
        begin
            count = {CW{1'b0}};
            for (i = 0; i < DW; i = i + 1) count = count + {{(CW-1){1'b0}}, bits[i]};
        end
    endfunction

    integer s;
    always @(posedge clk) begin
        if (!stall) begin
            if (take) states[127:0] <= mixed({position[63:32] ^ NONZERO, position[31:0], key});
            words <= {words[DW*(ROUNDS-1)-1:0], in_data};
            approx <= {approx[ROUNDS-2:0], in_approx};
            for (s = 1; s < ROUNDS; s = s + 1)
                if (valid[s-1]) states[128*s +: 128] <= mixed(states[128*(s-1) +: 128]);
        end
        if (rst) begin
            key <= 64'd0;
            threshold <= 33'd0;
            position <= 64'd0;
            valid <= {ROUNDS{1'b0}};
            out_valid <= 1'b0;
            out_data <= {DW{1'b0}};
            cnt_words <= 48'd0;
            cnt_approx <= 48'd0;
            cnt_flips <= 48'd0;
        end else begin
            if (!stall) begin
                valid <= {valid[ROUNDS-2:0], take};
                out_valid <= valid[ROUNDS-1];
            end
            if (take) position <= position + 64'd1;
            if (leave) begin
                out_data <= words[DW*ROUNDS-1 -: DW] ^ flips;
                cnt_words <= cnt_words + 48'd1;
                if (approx[ROUNDS-1]) cnt_approx <= cnt_approx + 48'd1;
                cnt_flips <= cnt_flips + {{(48-CW){1'b0}}, count(flips)};
            end
            if (cfg_valid && cfg_ready) begin
                key <= cfg_key;
                threshold <= cfg_threshold;
                position <= cfg_position;
            end
        end
    end
endmodule
