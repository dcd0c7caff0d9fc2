// One lane: acc = (first ? bias : acc) + x * w; the sum leaves in the cycle after the last product.
module mac_lane #(
    parameter integer W = 16,
    parameter integer WACC = 48
) (
    input  wire                    clk,
    input  wire                    rst,
    input  wire                    valid,
    input  wire                    first,
    input  wire                    last,
    input  wire signed [W-1:0]     x,
    input  wire signed [W-1:0]     w,
    input  wire signed [WACC-1:0]  bias,
    output reg                     out_valid,
    output reg  signed [WACC-1:0]  out
);
    always @(posedge clk) begin
        out_valid <= valid && last && !rst;
        if (rst) out <= {WACC{1'b0}};
        else if (valid) out <= (first ? bias : out) + x * w;
    end
endmodule
